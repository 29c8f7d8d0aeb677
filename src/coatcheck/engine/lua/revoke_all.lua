-- End the sessions of a subject but one, up to a number of them at a time.
-- KEYS: 1 subject's index  2 expiry index  3 epoch  4 events
-- ARGV: 1 stem  2 digest  3 handle to keep, or ''  4 at most this many  5 now  6 by whom  7 why
--       8 declared compartments  9 until when it may be carried out, by the store's own clock (ms)
-- REPLY: {how many ended, how many are left to end}  {-1, seconds, microseconds}: it comes too late, at that time of the
--        store, and has done nothing
-- USES: record events index companions late

local late = too_late(ARGV[9])
if late then return {-1, late[1], late[2]} end
local ended, room, epoch = 0, tonumber(ARGV[4]), redis.call('GET', KEYS[3])
for _, handle in ipairs(redis.call('ZRANGE', KEYS[1], 0, room)) do  -- one more, for it may be the one to keep
  if (handle ~= ARGV[3] or handle == '') and room > 0 then  -- '' keeps none, not one of that name
    room = room - 1
    local record = redis.call('GET', ARGV[1] .. handle)
    erase(ARGV[1], handle, ARGV[8])
    if alive(record, epoch) then
      ended = ended + 1
      leave(KEYS[1], KEYS[2], handle, ARGV[2])
      emit(KEYS[4], 'revoked', handle, ARGV[2], ARGV[5], ARGV[6], ARGV[7])
    else
      settle(KEYS[1], KEYS[2], KEYS[4], handle, ARGV[2], record, ARGV[5])
    end
  end
end
local left = redis.call('ZCARD', KEYS[1])
if left > 0 and ARGV[3] ~= '' and redis.call('ZSCORE', KEYS[1], ARGV[3]) then left = left - 1 end
return {ended, left}
