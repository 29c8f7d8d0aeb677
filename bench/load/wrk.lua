-- Ask with the cookies of the file LOAD_COOKIES in turn; print the figures as one line of JSON.

local requests, turn = {}, 0

function init()
  for cookie in io.lines(os.getenv("LOAD_COOKIES")) do
    wrk.headers["Cookie"] = cookie
    wrk.headers["X-Forwarded-Proto"] = "https"
    requests[#requests + 1] = wrk.format("GET")
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\nRESULT {"requests": %d, "duration": %d, "status": %d, "timeout": %d, "connect": %d, "read": %d, "write": %d, '
      .. '"p50": %d, "p99": %d}\n',
    summary.requests, summary.duration, errors.status, errors.timeout, errors.connect, errors.read, errors.write,
    latency:percentile(50), latency:percentile(99)))
end
