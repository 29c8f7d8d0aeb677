-- Put a dictionary out of use; and delete it, where that is asked for and it has been out of use for long enough.
-- KEYS: 1 list of the dictionaries  2 dictionary
-- ARGV: 1 its id  2 now  3 how long it must be out of use to be deleted (ms); empty: do not delete it
-- REPLY: {0, 0} it is not listed  {1, for how long it has been out of use (ms)}  {2, the same} it was deleted

local list, id, now = KEYS[1], ARGV[1], tonumber(ARGV[2])
local since = redis.call('ZSCORE', list, id)
if not since then return {0, 0} end
local later = redis.call('ZRANGEBYSCORE', list, '(' .. since, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if #later == 0 then  -- it is in use: from now on none is
  redis.call('ZADD', list, string.format('%.0f', math.max(now, since + 1)), '-')
  return {1, 0}
end
local out = math.max(0, now - later[2])
if ARGV[3] == '' or out < tonumber(ARGV[3]) then return {1, out} end
redis.call('DEL', KEYS[2])
redis.call('ZREM', list, id)
if redis.call('ZCARD', list) == 1 then redis.call('ZREM', list, '-') end
return {2, out}
