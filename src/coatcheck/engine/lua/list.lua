-- Read the sessions of a subject, a page at a time.
-- KEYS: 1 subject's index  2 epoch
-- ARGV: 1 stem  2 rank to start at  3 how many
-- REPLY: {handles looked at, handle, record, remaining ttl (ms), ...} without those that have ended
-- USES: record

local handles = redis.call('ZRANGE', KEYS[1], ARGV[2], ARGV[2] + ARGV[3] - 1)
local reply, epoch = {#handles}, redis.call('GET', KEYS[2])
for _, handle in ipairs(handles) do
  local record = redis.call('GET', ARGV[1] .. handle)
  if alive(record, epoch) then
    reply[#reply + 1] = handle
    reply[#reply + 1] = record
    reply[#reply + 1] = redis.call('PTTL', ARGV[1] .. handle)
  end
end
return reply
