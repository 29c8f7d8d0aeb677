-- Replace a record if its revision is still the one it was made from. Never creates one.
-- KEYS: 1 record  2 epoch  [3 events: where there is something to tell, or deadlines change
--       [4 subject's index  5 expiry index: where a bound session's deadlines change]]
-- ARGV: 1 expected revision (4 bytes)  2 record  3 ttl (ms)  [4 handle  5 now  6 digest or ''
--       7 type of the event, or '' for none  8 why  [9 absolute deadline]]
-- REPLY: {1} saved (or saved by an earlier try)  {0} there is no record  {2, record} it has another revision
-- USES: record events index

local current = redis.call('GET', KEYS[1])
if not alive(current, redis.call('GET', KEYS[2])) then return {0} end
if current ~= ARGV[2] then
  if string.sub(current, 5, 8) ~= ARGV[1] then return {2, current} end
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  if (ARGV[7] or '') ~= '' then emit(KEYS[3], ARGV[7], ARGV[4], ARGV[6], ARGV[5], '', ARGV[8]) end
end
if KEYS[4] then
  enter(KEYS[4], KEYS[5], ARGV[4], ARGV[6], tonumber(ARGV[5]), tonumber(ARGV[3]), tonumber(ARGV[9]))
end
return {1}
