-- End every session of a partition that was created up to now.
-- KEYS: 1 epoch  2 events
-- ARGV: 1 now  2 how long the epoch must be kept (ms)  3 by whom  4 why
-- REPLY: 1
-- USES: events
-- The store's own time counts too: so what was stored before this ends, however late the caller's clock is. Sent
-- twice, it also ends what was created between, and tells of it once.

local time, former = redis.call('TIME'), tonumber(redis.call('GET', KEYS[1]) or 0)
local epoch = math.max(former, tonumber(ARGV[1]), time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('DEL', KEYS[1])  -- behind it the SET gets through where memory is full
redis.call('SET', KEYS[1], string.format('%.0f', epoch), 'PX', ARGV[2])
if not is_told(KEYS[2], 'revoked', '', ARGV[1]) then emit(KEYS[2], 'revoked', '', '', ARGV[1], ARGV[3], ARGV[4]) end
return 1
