-- Store the first record of a session, never over another one.
-- KEYS: 1 record  2 events
-- ARGV: 1 record  2 ttl (ms)  3 handle  4 now
-- REPLY: 1 stored (or stored by an earlier try of the same call)  0 the handle is taken
-- USES: events

if redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2], 'NX') then
  emit(KEYS[2], 'created', ARGV[3], '', ARGV[4], '', '')
  return 1
end
if redis.call('GET', KEYS[1]) == ARGV[1] then return 1 end
return 0
