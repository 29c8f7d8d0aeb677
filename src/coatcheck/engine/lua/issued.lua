-- Enter a session, or the mark of a logout, in an index of an issuer, and give what it holds of the other kind: so
-- either the logout finds the session, or the session's sign-in finds the mark.
-- KEYS: 1 index
-- ARGV: 1 handle or mark  2 until when to keep it (ms): of a handle as it is, of a mark with a minus before it  3 now
-- REPLY: for a handle {mark, ...}, for a mark {handle, ...}

local index, entry, score, now = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', index, -now, now)  -- what is over, of both kinds
local known = redis.call('ZSCORE', index, entry)
if not known or math.abs(known) < math.abs(score) then redis.call('ZADD', index, ARGV[2], entry) end
local life = math.abs(score) - now
if redis.call('PTTL', index) < life then redis.call('PEXPIRE', index, life) end
if score < 0 then return redis.call('ZRANGEBYSCORE', index, '(0', '+inf') end
return redis.call('ZRANGEBYSCORE', index, '-inf', '(0')
