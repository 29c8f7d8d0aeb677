-- Store the first record of a session, never over another one.
-- KEYS: 1 record
-- ARGV: 1 record  2 ttl (ms)
-- REPLY: 1 stored (or stored by an earlier try of the same call)  0 the handle is taken

if redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX') then return 1 end
if redis.call('GET', KEYS[1]) == ARGV[1] then return 1 end
return 0
