-- One rate limit, shared by all workers: GCRA (https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm).
-- tat is the theoretical arrival time of the next request, interval the emission interval, and `burst` requests may start
-- at once after idle time. All times are µs, of the server's clock.
--
-- KEYS[1] HASH    tat, lease (who has the one request in flight, or ''), and the ends of: hold (nothing starts),
--                 gentle (burst 1), reduced (low credit); epoch grows with each hold; share: our part of the limit, as
--                 of the time `shared`: each 429 lowers it, and it recovers with time; strikes: holds in a row, each
--                 soon after the last
-- KEYS[2] STRING  the reason of a pause; for creates only
-- KEYS[3] STRING  the reason of back-pressure; for creates only
-- KEYS[4] HASH    of a pause by a worker: by, next; from `next` on, a 402 is probed by one create at a time
-- ARGV    'reserve', who, limit a minute, n
-- ARGV    'finish', who, limit a minute, 1 = a request was made, 0 = the start time was not used
-- ARGV    'hold', who, limit a minute, µs (below 0: unknown, so it doubles with each strike), 0 = a 429, 1 = low credit,
--         2 = an outage, which says nothing about the limit; returns how many µs it lasts from now
-- ARGV    'slow_down', who, limit a minute, start times that a request costs besides its own, as others use the limit too
-- 'reserve' returns {now, epoch, wait, horizon, leased, why, text, start time...}: wait is 0 or when to ask again,
-- horizon is the most start times to reserve ahead; why = '' | paused | probing | trouble | held | reduced

local SECOND, MINUTE = 1e6, 60e6
local GENTLE, REDUCED = 10 * MINUTE, 5 * MINUTE -- gentle outlasts reduced: the full limit comes back without a burst
local REDUCED_LIMIT = 6
local FEEDBACK_BELOW = 60 -- a minute; above, a round trip's jitter is not small against an interval: one request in flight
local LEASE = 120 * SECOND -- after which that request is given up: longer than any call takes, also in blocking mode
local LOOK_AHEAD = SECOND / 2
local PACE, BURST = 0.985, 0.005 -- 594 of 600 in any minute; the rest allows for starts that are late by 0.6 s
local LONGEST_UNKNOWN, SOON = MINUTE, 5 * SECOND -- the longest hold of unknown length; a hold that follows this soon is a strike
local LESS, LEAST, REGAIN = 0.8, 0.2, 10 * MINUTE -- factor of each 429; lowest share; time to recover from 0 to 1

local op, who, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local clock = redis.call('TIME')
local now = clock[1] * SECOND + clock[2]
local stored = redis.call('HMGET', KEYS[1], 'tat', 'hold', 'gentle', 'reduced', 'epoch', 'lease', 'share',
  'shared', 'strikes')
local tat, hold, gentle = tonumber(stored[1] or 0), tonumber(stored[2] or 0), tonumber(stored[3] or 0)
local reduced, epoch, lease = tonumber(stored[4] or 0), tonumber(stored[5] or 0), stored[6] or ''
local share, shared, strikes = tonumber(stored[7] or 1), tonumber(stored[8] or 0), tonumber(stored[9] or 0)

share = math.min(1, share + (now - shared) / REGAIN)
limit = limit * share
if reduced > now then
  limit = math.min(limit, REDUCED_LIMIT)
end
local feedback = limit < FEEDBACK_BELOW
local burst = gentle > now and 1 or math.max(1, math.floor(limit * BURST))
local interval = MINUTE / limit / (feedback and 1 or PACE)

local function save()
  local text = '%.0f'
  redis.call('HSET', KEYS[1], 'tat', text:format(tat), 'hold', text:format(hold), 'gentle', text:format(gentle),
    'reduced', text:format(reduced), 'epoch', text:format(epoch), 'lease', lease, 'share', share,
    'shared', text:format(now), 'strikes', text:format(strikes))
  redis.call('PEXPIREAT', KEYS[1], text:format((math.max(tat, hold, gentle, reduced) + MINUTE) / 1000))
end

local function check_holds()
  local paused = KEYS[2] and redis.call('GET', KEYS[2])
  if paused then
    local own = redis.call('HMGET', KEYS[4], 'by', 'next')
    if own[1] ~= '402' or tonumber(own[2]) * 1000 > now then
      return SECOND / 2, 'paused', paused
    end
    feedback = true
  end
  local trouble = KEYS[3] and redis.call('GET', KEYS[3])
  if trouble then
    return SECOND / 2, 'trouble', trouble
  end
  if hold > now then
    return math.min(hold - now, SECOND), 'held', string.format('%.0f', (hold - now) / SECOND)
  end
  if paused then
    return 0, 'probing', paused
  end
  return 0, reduced > now and 'reduced' or '', tostring(limit)
end

local function lease_start(answer)
  if tat <= now then
    tat, lease = now + LEASE, who
    answer[5], answer[8] = 1, now
    save()
  elseif lease ~= '' then
    answer[3] = math.max(interval / 100, SECOND / 20) -- another worker's request may end at any moment
  else
    answer[3] = math.min(tat - now, SECOND)
  end
end

local function reserve_times(answer, n)
  if lease ~= '' then -- left over from a time of feedback
    tat, lease = math.min(tat, now), ''
  end
  tat = math.max(tat, now - (burst - 1) * interval)
  for i = 1, n do
    answer[7 + i] = math.max(tat, now)
    tat = tat + interval
  end
  save()
end

local function reserve(n)
  local wait, why, text = check_holds()
  local answer = {now, epoch, wait, math.max(1, math.floor(LOOK_AHEAD / interval)), 0, why, text}
  if wait == 0 and n > 0 then
    if feedback then
      lease_start(answer)
    else
      reserve_times(answer, math.min(n, answer[4]))
    end
  end
  answer[3] = math.ceil(answer[3])
  return answer
end

if op == 'reserve' then
  return reserve(tonumber(ARGV[4]))
end
if lease == who then
  tat, lease = now + (op == 'finish' and ARGV[4] == '0' and 0 or interval), ''
end
if op == 'slow_down' and not feedback then
  tat = math.max(tat, now) + ARGV[4] * interval
elseif op == 'hold' then
  local first = hold <= now -- the first of the requests that were under way
  local length = tonumber(ARGV[4])
  if first then
    strikes = now < hold + math.max(SOON, 3 * interval) and strikes + 1 or 1
  end
  if length < 0 then
    length = math.min(SECOND * 2 ^ (math.min(strikes, 20) - 1), LONGEST_UNKNOWN)
  end
  epoch = epoch + 1
  hold = math.max(hold, now + length)
  if ARGV[5] ~= '2' then
    gentle = now + GENTLE
  end
  if first and ARGV[5] == '0' then
    share = math.max(share * LESS, LEAST)
  elseif ARGV[5] == '1' then
    reduced = now + REDUCED
  end
end
save()
return math.ceil(math.max(hold - now, 0))
