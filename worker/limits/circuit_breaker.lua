-- The circuit breakers (https://martinfowler.com/bliki/CircuitBreaker.html) of an account's models, shared by all
-- workers. Only the outcome of its one probe reopens a paused model. All times are ms of the server's clock.
--
-- KEYS[1] HASH    model → 0, a blank, and the outcomes of its last predictions: s | f; there is a field for each model
--                 that ever had a prediction
-- KEYS[2] HASH    paused model → JSON {failures, of, refusals = 0, message: why; pause: its length; next: when the next
--                 probe may start; probe: '' or the prompt that is the probe, since when}
-- KEYS[3] STRING  JSON {number, event...} of the last report of one worker: a repeated one changes nothing
-- ARGV[1..4]  failures that a window tolerates, length of a pause, life of a probe, number of this report
-- ARGV[5] number of outcomes, then for each: model, prompt, succeeded | failed | ignored, message
-- then, for each model with a prompt that waits: model, prompt
-- Returns {now, {paused | reopened | prolonged, model, ...}, {model, JSON, ...}}

local WINDOW = 50
local LONGEST_PAUSE = 15 * 60 * 1000
local DAY = 24 * 60 * 60 * 1000 -- a pause that is not probed for this long is forgotten

local tolerated, pause, life = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local number, count = tonumber(ARGV[4]), tonumber(ARGV[5])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local events = {}

local function add_event(event, model)
  events[#events + 1] = event
  events[#events + 1] = model
end

local function load(model)
  local found = redis.call('HGET', KEYS[2], model)
  return found and cjson.decode(found)
end

local function save(model, state)
  redis.call('HSET', KEYS[2], model, cjson.encode(state))
  redis.call('PEXPIRE', KEYS[2], DAY)
end

local function end_probe(model, state, outcome, message)
  state.probe = ''
  if outcome == 'succeeded' then
    redis.call('HDEL', KEYS[2], model)
    return add_event('reopened', model)
  elseif outcome == 'ignored' then
    state.next = now
  else
    state.message, state.pause = message, math.min(state.pause * 2, LONGEST_PAUSE)
    state.next = now + state.pause
    add_event('prolonged', model)
  end
  save(model, state)
end

local function trip(model, failures, of, message)
  redis.call('HSET', KEYS[1], model, '0 ')
  save(model, {failures = failures, of = of, refusals = 0, message = message, pause = pause, next = now + pause,
    probe = '', since = 0})
  add_event('paused', model)
end

local function count_outcome(model, outcome, message)
  local window = (redis.call('HGET', KEYS[1], model) or '0 '):match('%a*$')
  window = (window .. outcome:sub(1, 1)):sub(-WINDOW)
  local _, failures = window:gsub('f', '')
  if failures > tolerated then
    trip(model, failures, #window, message)
  else
    redis.call('HSET', KEYS[1], model, '0 ' .. window)
  end
end

local function record_outcome(model, prompt, outcome, message)
  local state = load(model)
  if not state then
    if outcome ~= 'ignored' then
      count_outcome(model, outcome, message)
    end
  elseif state.probe == prompt then
    end_probe(model, state, outcome, message)
  end
end

local function start_probe(model, prompt)
  local state = load(model)
  if not state or state.probe == prompt then
    return
  end
  if state.probe == '' and now >= state.next or state.probe ~= '' and now >= state.since + life then
    state.probe, state.since = prompt, now
    save(model, state)
  end
end

local function report()
  local last = redis.call('GET', KEYS[3])
  local reported = last and cjson.decode(last) or {0}
  if reported[1] == number then
    events = {unpack(reported, 2)}
    return
  end
  for i = 6, 5 + 4 * count, 4 do
    record_outcome(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
  end
  redis.call('PEXPIRE', KEYS[1], 7 * DAY)
  redis.call('SET', KEYS[3], cjson.encode({number, unpack(events)}), 'PX', DAY)
end

if count > 0 then
  report()
end
for i = 6 + 4 * count, #ARGV, 2 do
  start_probe(ARGV[i], ARGV[i + 1])
end
return {now, events, redis.call('HGETALL', KEYS[2])}
