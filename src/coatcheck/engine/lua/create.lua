-- Store the first record of a session, never over another one.
-- KEYS: 1 record  2 epoch  3 events
-- ARGV: 1 record  2 ttl (ms)  3 handle  4 now
-- REPLY: {1} stored (or stored by an earlier try of the same call)  {0} the handle is taken
--        {2, epoch} the epoch would end it: it must be created later
-- USES: record events

local epoch, there = redis.call('GET', KEYS[2]), redis.call('GET', KEYS[1])
if there then return {there == ARGV[1] and 1 or 0} end
if not alive(ARGV[1], epoch) then return {2, epoch} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
emit(KEYS[3], 'created', ARGV[3], '', ARGV[4], '', '')
return {1}
