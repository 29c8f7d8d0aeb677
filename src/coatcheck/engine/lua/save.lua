-- Replace a record if its revision is still the one it was made from. Never creates one.
-- KEYS: 1 record  [2 subject's index  3 expiry index: given when the deadlines of a bound session change]
-- ARGV: 1 expected revision (4 bytes)  2 record  3 ttl (ms)  [4 handle  5 digest  6 now  7 absolute deadline]
-- REPLY: {1} saved (or saved by an earlier try)  {0} there is no record  {2, record} it has another revision
-- USES: index

local current = redis.call('GET', KEYS[1])
if not current then return {0} end
if current ~= ARGV[2] then
  if string.sub(current, 5, 8) ~= ARGV[1] then return {2, current} end
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
if KEYS[2] then
  enter(KEYS[2], KEYS[3], ARGV[4], ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[3]), tonumber(ARGV[7]))
end
return {1}
