"""From records to experts: LoRA tuning on a base, which may be made here too.

  data -> sources -> sft, or together for all of a pool at once -> pool
                                                      provenance -> pool

Public: sft.sft, sft.pretrain, sft.Settings, together.tune, sources.Source,
pool.train_pool.

Tested elsewhere: data in training/sft. sources, provenance in training/pool.
"""
