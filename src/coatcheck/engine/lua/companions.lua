-- Shared by the scripts that end sessions. What a session has beside its record ends with it: its activity, and its
-- compartments, those that are declared. A record's key is stem .. handle, and stem ends in 's:'.

local function erase(stem, handle, names)  -- names: the declared compartments, separated by spaces
  local beside = string.sub(stem, 1, -3)
  redis.call('DEL', beside .. 'a:' .. handle)
  for name in string.gmatch(names or '', '%S+') do
    redis.call('DEL', beside .. 'c:' .. handle .. ':' .. name)
  end
  return redis.call('DEL', stem .. handle)
end

