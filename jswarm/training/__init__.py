"""From records to experts: LoRA tuning on a base, which may be made here too.

  data -> sft, or together for all of a pool at once -> pool

Public: sft.sft, sft.pretrain, sft.Settings, together.tune, pool.train_pool.

Tested elsewhere: data in training/sft.
"""
