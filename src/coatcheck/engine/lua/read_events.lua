-- Hand a partition's events to a consumer of a group: those that another has kept for too long, then new ones.
-- KEYS: 1 events
-- ARGV: 1 group  2 consumer  3 at most this many  4 how long another may keep one unacknowledged (ms)
-- REPLY: {{id, {field, value, ...}}, ...}

if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0')  -- an error says that it exists
local kept = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[4], '0-0', 'COUNT', ARGV[3])
local reply = {}
for _, entry in ipairs(kept[2]) do
  if entry and entry[2] then reply[#reply + 1] = entry end  -- Redis 6.2 gives nil for one that was trimmed
end
local room = tonumber(ARGV[3]) - #reply
if room > 0 then
  local fresh = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', room, 'STREAMS', KEYS[1], '>')
  if fresh then
    for _, entry in ipairs(fresh[1][2]) do reply[#reply + 1] = entry end
  end
end
return reply
