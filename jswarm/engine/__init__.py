"""From requests to replies: ten experts in one batch, lanes kept full.

  engine -> group -> resident -> adapter_forms      text and weights
                  -> batcher -> schedule, packing, limits, spread -> programs
         -> rectangles -> readings, logits            what is no reply
  texts: counts and room without weights; footprint: bytes that it all takes
  reply_store: replies on disk; counters: what was done; settings: how

Public: engine.make_experts, engine.place, settings.Settings, counters.Statistics,
readings.score, readings.hidden, logits.make_logits, texts.unloaded, footprint.of_group.

Tested elsewhere: settings in wiring/config. group, resident, schedule, packing,
spread, counters, adapter_forms in engine/batcher. rectangles in engine/readings.
texts in wiring/validate.
"""
