-- Add to the activity of a session, only while its record is there. Sent twice, it adds once.
-- KEYS: 1 record of the session  2 epoch  3 activity
-- ARGV: 1 ttl (ms)  2 entries to keep  3 when (ms) of the first entry, then that entry; the same of further ones
-- REPLY: {1} added (or added by an earlier try)  {0} the session has ended
-- USES: record

if not alive(redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])) then return {0} end
local there, ms, seq = {}, 0, 0
for _, entry in ipairs(redis.call('XRANGE', KEYS[3], ARGV[3], '+')) do there[entry[2][2]] = true end
local last = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
if last then
  local left, right = string.match(last[1], '(%d+)-(%d+)')
  ms, seq = tonumber(left), tonumber(right)
end
for i = 3, #ARGV, 2 do
  if not there[ARGV[i + 1]] then
    local at = tonumber(ARGV[i])
    if at > ms then ms, seq = at, 0 else seq = seq + 1 end  -- a stream's ids only ever rise
    redis.call('XADD', KEYS[3], 'MAXLEN', ARGV[2], string.format('%.0f-%.0f', ms, seq), 'd', ARGV[i + 1])
  end
end
redis.call('PEXPIRE', KEYS[3], ARGV[1])
return {1}
