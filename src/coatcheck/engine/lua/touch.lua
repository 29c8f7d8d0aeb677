-- Extend a session's idle deadline, as its record has it: another request may have changed its timeouts meanwhile.
-- KEYS: 1 record
-- ARGV: 1 now
-- REPLY: 1 done  0 there is no record, or its absolute deadline has come
-- USES: index

local record = redis.call('GET', KEYS[1])
if not record then return 0 end
local ttl = math.min(big_endian(record, 27, 32), big_endian(record, 15, 20) - tonumber(ARGV[1]))
if ttl <= 0 then return 0 end
return redis.call('PEXPIRE', KEYS[1], ttl)
