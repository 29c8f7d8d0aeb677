-- Shared by the scripts that end whoever is there when they run. One that is held back on its way, until who sent it has
-- given up and will ask for the end again, is to end nothing: those who came meanwhile are not meant.

-- Give the store's time as TIME does if it is later than `latest` (ms), else nothing.
local function too_late(latest)
  local time = redis.call('TIME')
  if time[1] * 1000 + math.floor(time[2] / 1000) > tonumber(latest) then return time end
end

