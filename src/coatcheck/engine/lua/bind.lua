-- Store the record of a new session of a subject, enter it in the indexes, keep the limit.
-- KEYS: 1 record  2 subject's index  3 expiry index  4 epoch  5 events
-- ARGV: 1 record  2 ttl (ms)  3 handle  4 digest  5 now  6 absolute deadline  7 stem
--       8 limit (0: none)  9 at the limit: 'oldest', 'idlest' or 'refuse'  10 sessions counted elsewhere
--       11 handle of the same subject that this one takes the place of, or ''
--       12 declared compartments
--       13 limit of the class of its device (0: none)  14 sessions of that class counted elsewhere
-- REPLY: {1, live sessions, live ones of the class (if there is a limit), record taken the place of or '',
--         ended handle, ...}  {0} refused by the limit  {4} refused by that of the class
--        {2} the session to take the place of has ended  {3, epoch} the epoch would end it: it must be created later
-- USES: record events index companions

local u, x, g, e, handle, digest, stem = KEYS[2], KEYS[3], KEYS[4], KEYS[5], ARGV[3], ARGV[4], ARGV[7]
local ttl, now, limit, order = tonumber(ARGV[2]), tonumber(ARGV[5]), tonumber(ARGV[8]), ARGV[9]
local of_class, class = tonumber(ARGV[13]), class_of(ARGV[1])
local live, classes, there = {}, {}, redis.call('GET', KEYS[1])
if there and there ~= ARGV[1] then return redis.error_reply('ERR the handle is taken') end
if not there then
  if not alive(ARGV[1], redis.call('GET', g)) then return {3, redis.call('GET', g)} end
end
if limit > 0 or of_class > 0 then live, classes = live_sessions(u, g, stem) end
if there then return {1, math.max(1, #live), math.max(1, count(live, classes, class)), ''} end
local replaced, ended = '', {}
if ARGV[11] ~= '' then
  replaced = redis.call('GET', stem .. ARGV[11])
  if not alive(replaced, redis.call('GET', g)) then return {2} end
  for i, other in ipairs(live) do
    if other == ARGV[11] then table.remove(live, i) break end
  end
end
if order ~= 'refuse' then
  ended = surplus(live, classes, class, of_class - 1, limit - 1, stem, order, now)
else
  local full_class = of_class > 0 and count(live, classes, class) + tonumber(ARGV[14]) >= of_class
  if full_class or (limit > 0 and #live + tonumber(ARGV[10]) >= limit) then
    if not is_told(e, 'refused', handle, ARGV[5]) then emit(e, 'refused', handle, digest, ARGV[5], '', '') end
    return {full_class and 4 or 0}
  end
end
for _, other in ipairs(ended) do
  erase(stem, other, ARGV[12])
  leave(u, x, other, digest)
  emit(e, 'evicted', other, digest, ARGV[5], '', '')
end
if replaced ~= '' then
  erase(stem, ARGV[11], ARGV[12])
  leave(u, x, ARGV[11], digest)
  emit(e, 'revoked', ARGV[11], digest, ARGV[5], '', 'another sign-in')
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ttl)
redis.call('ZREMRANGEBYSCORE', u, '-inf', now)  -- behind the SET, which full memory refuses as the first write only
enter(u, x, handle, digest, now, ttl, tonumber(ARGV[6]))
emit(e, 'bound', handle, digest, ARGV[5], '', '')
local left = count(live, classes, class) - count(ended, classes, class)
return append({1, #live - #ended + 1, left + 1, replaced}, ended)
