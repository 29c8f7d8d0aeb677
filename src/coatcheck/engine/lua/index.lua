-- Shared by the scripts that keep a subject's index (u) and the expiry index (x) of its partition.
-- u: member handle, score absolute deadline.  x: member handle .. digest, score when to look (ms).
-- A handle is 16 characters, a digest 16. A record's key is stem .. handle.

local function outlive(key, milliseconds)  -- an index lives as long as its longest entry
  if redis.call('PTTL', key) < milliseconds then redis.call('PEXPIRE', key, milliseconds) end
end

local function enter(u, x, handle, digest, now, ttl, absolute_deadline)
  redis.call('ZADD', u, absolute_deadline, handle)
  redis.call('ZADD', x, now + ttl, handle .. digest)
  outlive(u, absolute_deadline - now)
  outlive(x, absolute_deadline - now)
end

local function leave(u, x, handle, digest)
  redis.call('ZREM', u, handle)
  redis.call('ZREM', x, handle .. digest)
end

local function drop_dead(u, x, stem, digest)  -- give the handles that are left, oldest absolute deadline first
  local live = {}
  for _, handle in ipairs(redis.call('ZRANGE', u, 0, -1)) do
    if redis.call('EXISTS', stem .. handle) == 1 then
      live[#live + 1] = handle
    else
      leave(u, x, handle, digest)
    end
  end
  return live
end

local function big_endian(record, first, last)
  local number = 0
  for _, byte in ipairs({string.byte(record, first, last)}) do number = number * 256 + byte end
  return number
end

-- End the oldest ('oldest': created first) or the idlest ('idlest': seen least recently) of the live sessions
-- until only `allowed` are left; give the handles that ended.
local function evict(u, x, stem, digest, live, allowed, order, now)
  local ended, ranked = {}, {}
  if #live <= allowed then return ended end
  for _, handle in ipairs(live) do
    local record = redis.call('GET', stem .. handle)
    local rank = big_endian(record, 9, 14)
    if order == 'idlest' then
      local seen_by_ttl = now + redis.call('PTTL', stem .. handle) - big_endian(record, 27, 32)
      rank = math.max(big_endian(record, 21, 26), seen_by_ttl)
    end
    ranked[#ranked + 1] = {rank, handle}
  end
  table.sort(ranked, function(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end)
  for i = 1, #live - allowed do
    local handle = ranked[i][2]
    redis.call('DEL', stem .. handle)
    leave(u, x, handle, digest)
    ended[i] = handle
  end
  return ended
end

local function append(reply, handles)  -- `unpack` fails beyond some 8,000
  for _, handle in ipairs(handles) do reply[#reply + 1] = handle end
  return reply
end

