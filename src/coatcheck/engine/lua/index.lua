-- Shared by the scripts that keep a subject's index (u) and the expiry index (x) of its partition.
-- u: member handle, score absolute deadline.  x: member handle .. digest, score when to look (ms).
-- A handle is 16 characters, a digest 16. A record's key is stem .. handle.
-- The epoch (g) of a partition ends every session in it that was created then or before (ms).

local TO_SETTLE = 86400000  -- ms for a sweep to come by and tell of a session that has ended, the last one too

local function outlive(key, milliseconds)  -- an index lives as long as its longest entry
  if redis.call('PTTL', key) < milliseconds then redis.call('PEXPIRE', key, milliseconds) end
end

local function enter(u, x, handle, digest, now, ttl, absolute_deadline)
  redis.call('ZADD', u, absolute_deadline, handle)
  redis.call('ZADD', x, now + ttl, handle .. digest)
  outlive(u, absolute_deadline - now)
  outlive(x, absolute_deadline - now + TO_SETTLE)
end

local function leave(u, x, handle, digest)
  redis.call('ZREM', u, handle)
  redis.call('ZREM', x, handle .. digest)
end

-- Drop a session that no operation has ended, and say why it did end: by the epoch, if its record is still there,
-- by its idle timeout or by its absolute deadline.
local function settle(u, x, e, handle, digest, is_there, at)
  local due, deadline = redis.call('ZSCORE', x, handle .. digest), redis.call('ZSCORE', u, handle)
  leave(u, x, handle, digest)
  if is_there then return emit(e, 'revoked', handle, digest, at, '', 'everyone') end
  local idle = due and deadline and tonumber(due) < tonumber(deadline) - 1000
  emit(e, 'expired', handle, digest, at, '', idle and 'idle' or 'absolute')
end

local function live_sessions(u, g, stem)  -- the handles whose sessions live, oldest absolute deadline first
  local live, epoch = {}, redis.call('GET', g)
  for _, handle in ipairs(redis.call('ZRANGE', u, 0, -1)) do
    if alive(redis.call('GET', stem .. handle), epoch) then live[#live + 1] = handle end
  end
  return live
end

-- Choose which of the live sessions to end so that only `allowed` are left: the oldest ('oldest': created first)
-- or the idlest ('idlest': seen least recently).
local function surplus(live, stem, allowed, order, now)
  local chosen, ranked = {}, {}
  if #live <= allowed then return chosen end
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
  for i = 1, #live - allowed do chosen[i] = ranked[i][2] end
  return chosen
end

local function append(reply, handles)  -- `unpack` fails beyond some 8,000
  for _, handle in ipairs(handles) do reply[#reply + 1] = handle end
  return reply
end

