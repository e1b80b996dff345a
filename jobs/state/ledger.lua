-- The pay-once ledger: every change is a compare-and-set on the nonce of the prompt's open attempt.
-- An entry is JSON {attempt, nonce, at, prediction_id?, prediction_ids, unknown_creates, aborted, cost, reserved, ended?};
-- its nonce is "" when the attempt has ended and another may begin; `ended` is the nonce that it had. Money is in
-- micro-dollars: an intent reserves the price, and its end replaces that by the cost. Idempotent: a call whose
-- answer was lost may be repeated.
--
-- KEYS[1] HASH    the ledger: index -> entry
-- KEYS[2] BITMAP  settled prompts
-- KEYS[3] HASH    the batch; predictions and cost are what it has spent and reserved, reservations the open attempts
-- KEYS[4] STRING  the claim of the prediction ('record' only)
-- ARGV    'afford', batch's id, index, '', price
-- ARGV    'intend', batch's id, index, expected nonce, new nonce, 'attempt' | 'replace', price ('' = not known)
-- ARGV    'record', batch's id, index, nonce, prediction id, claimant, claim's seconds
-- ARGV    'withdraw', batch's id, index, nonce
-- ARGV    'close', batch's id, index, nonce, cost, 'attempt' | 'refused' | 'unknown' | 'output_lost' | 'aborted', model
-- returns {verdict, entry or ''}; verdict = ok | gone | settled | conflict | claimed (the prediction serves another
-- prompt) | served (the prompt has another prediction), and of a budget: short (for now: open attempts may free
-- some of it) | spent | unpriced

local op, index = ARGV[1], ARGV[3]

if redis.call('HGET', KEYS[3], 'id') ~= ARGV[2] then
  return {'gone', ''}
end
if redis.call('GETBIT', KEYS[2], index) == 1 then
  return {'settled', ''}
end

local stored = redis.call('HGET', KEYS[1], index)
local entry = stored and cjson.decode(stored)
  or {attempt = 0, nonce = '', prediction_ids = '', unknown_creates = 0, aborted = 0, cost = 0, reserved = 0}

local function count(field, by)
  redis.call('HINCRBY', KEYS[3], field, string.format('%.0f', by + 0)) -- 0 is never -0
end

-- Why the batch's budget does not allow another prediction at that price; `own` is how many open attempts are ours.
local function refusal(price, own)
  local batch = redis.call('HMGET', KEYS[3], 'max_predictions', 'predictions', 'max_cost', 'cost', 'reservations')
  if batch[3] and not price then
    return 'unpriced'
  end
  local too_many = batch[1] and tonumber(batch[2] or 0) + 1 > tonumber(batch[1])
  local too_expensive = batch[3] and tonumber(batch[4] or 0) + price > tonumber(batch[3])
  if too_many or too_expensive then
    return tonumber(batch[5] or 0) > own and 'short' or 'spent'
  end
end

local function save()
  stored = cjson.encode(entry)
  redis.call('HSET', KEYS[1], index, stored)
  return {'ok', stored}
end

local function intend(expected, nonce, mode, price)
  if entry.nonce == nonce then
    return {'ok', stored}
  end
  if entry.nonce ~= expected or entry.prediction_id then
    return {'conflict', stored or ''}
  end
  local replaced = mode == 'replace'
  local refused = refusal(price, replaced and 1 or 0)
  if refused then
    return {refused, stored or ''}
  end
  if replaced then
    entry.unknown_creates = entry.unknown_creates + 1
    entry.cost = entry.cost + entry.reserved -- it may have been paid
    count('unknown_creates', 1)
  else
    entry.attempt = entry.attempt + 1
    count('reservations', 1)
  end
  entry.reserved = price or 0
  count('predictions', 1)
  count('cost', entry.reserved)
  local now = redis.call('TIME')
  entry.nonce, entry.prediction_id, entry.at = nonce, nil, tonumber(now[1]) + tonumber(now[2]) / 1000000
  return save()
end

local function record(nonce, prediction_id, claimant, ttl)
  if entry.nonce ~= nonce then
    return {'conflict', stored or ''}
  end
  if entry.prediction_id == prediction_id then
    return {'ok', stored}
  end
  if entry.prediction_id then
    return {'served', stored}
  end
  if not redis.call('SET', KEYS[4], claimant, 'NX', 'EX', ttl) and redis.call('GET', KEYS[4]) ~= claimant then
    return {'claimed', stored}
  end
  entry.prediction_id = prediction_id
  entry.prediction_ids = entry.prediction_ids == '' and prediction_id or entry.prediction_ids .. ' ' .. prediction_id
  return save()
end

local function withdraw(nonce)
  if entry.ended == nonce or not stored then
    return {'ok', stored or ''}
  end
  if entry.nonce ~= nonce or entry.prediction_id then -- another worker's search has found the prediction
    return {'conflict', stored}
  end
  count('predictions', -1)
  count('cost', -entry.reserved)
  count('reservations', -1)
  entry.nonce, entry.ended, entry.prediction_id, entry.attempt = '', nonce, nil, entry.attempt - 1
  entry.reserved = 0
  if entry.attempt == 0 and entry.prediction_ids == '' and entry.unknown_creates == 0 then
    redis.call('HDEL', KEYS[1], index)
    return {'ok', ''}
  end
  return save()
end

local function count_end(cost, how, model)
  if how == 'refused' then
    count('predictions', -1)
  elseif how == 'unknown' then
    entry.unknown_creates = entry.unknown_creates + 1
    count('unknown_creates', 1)
  elseif how == 'output_lost' then
    count('outputs_lost', 1)
  elseif how == 'aborted' then
    entry.attempt, entry.aborted = entry.attempt - 1, entry.aborted + 1
    count('aborted', 1)
    redis.call('HSET', KEYS[3], 'aborted_model', model)
  end
  count('cost', cost - entry.reserved)
  count('reservations', -1)
  entry.cost, entry.reserved = entry.cost + cost, 0
end

local function close(nonce, cost, how, model)
  if nonce ~= '' and entry.ended == nonce and entry.nonce == '' then
    return {'ok', stored}
  end
  if entry.nonce ~= nonce or (how == 'refused' or how == 'unknown') and entry.prediction_id then
    return {'conflict', stored or ''}
  end
  if nonce ~= '' then
    count_end(cost, how, model)
    entry.nonce, entry.ended, entry.prediction_id = '', nonce, nil
  end
  return save()
end

if op == 'afford' then
  return {refusal(tonumber(ARGV[5]), entry.nonce == '' and 0 or 1) or 'ok', stored or ''}
elseif op == 'intend' then
  return intend(ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]))
elseif op == 'record' then
  return record(ARGV[4], ARGV[5], ARGV[6], ARGV[7])
elseif op == 'withdraw' then
  return withdraw(ARGV[4])
end
return close(ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7])
