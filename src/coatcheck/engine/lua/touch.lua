-- Extend a session's idle deadline, as its record has it: another request may have changed its timeouts meanwhile.
-- KEYS: 1 record  2 epoch
-- ARGV: 1 now
-- REPLY: 1 done  0 there is no such session, or its absolute deadline has come
-- USES: record

local record = redis.call('GET', KEYS[1])
if not alive(record, redis.call('GET', KEYS[2])) then return 0 end
local ttl = math.min(big_endian(record, 27, 32), big_endian(record, 15, 20) - tonumber(ARGV[1]))
if ttl <= 0 then return 0 end
return redis.call('PEXPIRE', KEYS[1], ttl)
