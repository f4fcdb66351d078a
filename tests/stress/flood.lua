-- For wrk: exchanges as fast as they go, each of its own ID token and package. wrk … -- TOKENS FIRST SHARE
-- TOKENS is a file of ID tokens, a line each; one is good for 256 packages. This run has those after FIRST, SHARE of them.
local heads, at, package = {}, 0, 0

function init(arguments)
  local first, share = tonumber(arguments[2]), tonumber(arguments[3])
  local number = 0
  for token in io.lines(arguments[1]) do
    number = number + 1
    if number > first and number <= first + share then
      heads[#heads + 1] = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange"
        .. "&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt&subject_token=" .. token
        .. "&scope=upload%3Awidgets-"
    end
  end
end

function request()
  at = at + 1
  if at > #heads then
    at, package = 1, package + 1
  end
  local body = heads[at] .. package
  return "POST /v1/token HTTP/1.1\r\nhost: store.acme.example\r\ncontent-type: application/x-www-form-urlencoded\r\n"
    .. "content-length: " .. #body .. "\r\n\r\n" .. body
end
