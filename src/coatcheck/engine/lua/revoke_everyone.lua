-- End every session of a partition that was created up to now.
-- KEYS: 1 epoch  2 events
-- ARGV: 1 now  2 how long the epoch must be kept (ms)  3 by whom  4 why
-- REPLY: 1
-- USES: events

local former = redis.call('GET', KEYS[1])
if former and tonumber(former) >= tonumber(ARGV[1]) then return 1 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
emit(KEYS[2], 'revoked', '', '', ARGV[1], ARGV[3], ARGV[4])
return 1
