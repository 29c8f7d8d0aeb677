-- Replace a record by the same one under another sealing key, if nobody has written it meanwhile. Not a write of the
-- session: revision, deadlines and TTL stay.
-- KEYS: 1 record
-- ARGV: 1 what the record begins with: its header and nonce, which no two writes share  2 the record to put there
-- REPLY: 1 replaced (or replaced by an earlier try)  0 the record is another one by now, or gone

local current = redis.call('GET', KEYS[1])
if not current then return 0 end
if current == ARGV[2] then return 1 end
if string.sub(current, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
