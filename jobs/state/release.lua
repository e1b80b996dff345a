-- Release what prompts hold of the limits that all batches share, once no worker processes them any more.
--
-- KEYS[1]    HASH  paused model → JSON (worker/limits/circuit_breaker.lua); a probe among the prompts is given up
-- KEYS[2..]  ZSET  prompts with a prediction of a limited model in flight (worker/limits/model_limiter.lua)
-- ARGV[1]    '<batch>/' for all prompts of a batch, or '' for those that follow
-- ARGV[2..]  prompts, `<batch>/<prompt id>`

local prefix, named = ARGV[1], {}
for i = 2, #ARGV do
  named[ARGV[i]] = true
end

local function is_meant(prompt)
  return named[prompt] or prefix ~= '' and prompt:sub(1, #prefix) == prefix
end

for i = 2, #KEYS do
  for _, prompt in ipairs(redis.call('ZRANGE', KEYS[i], 0, -1)) do
    if is_meant(prompt) then
      redis.call('ZREM', KEYS[i], prompt)
    end
  end
end

local pauses = redis.call('HGETALL', KEYS[1])
for i = 1, #pauses, 2 do
  local state = cjson.decode(pauses[i + 1])
  if is_meant(state.probe) then
    state.probe = ''
    redis.call('HSET', KEYS[1], pauses[i], cjson.encode(state))
  end
end
