-- For wrk: posts the lines of a file, each once with `once`, else over and over; prints what was seen as one line of JSON.
local bodies, once, at = {}, false, 0

function init(args)
  for line in io.lines(args[1]) do bodies[#bodies + 1] = line end
  once = args[2] == "once"
  wrk.headers["content-type"] = "application/json"
  for i = 3, #args do
    local name, value = args[i]:match("^([^:]+): (.*)$")
    wrk.headers[name] = value
  end
end

function request()
  at = at + 1
  if at > #bodies then
    at = 1
    -- What is posted a second time would be refused: the last requests under way are not counted by the caller.
    if once then wrk.thread:stop() end
  end
  return wrk.format("POST", nil, nil, bodies[at])
end

function done(summary, latency)
  local failed = summary.errors
  print(string.format(
    '\n{"requests":%d,"refused":%d,"broken":%d,"p50":%d,"p99":%d,"p999":%d}',
    summary.requests, failed.status, failed.connect + failed.read + failed.write + failed.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
