"""From records to experts: LoRA tuning on a base, which may be made here too.

  data -> sft -> pool

Public: sft.sft, sft.pretrain, sft.Settings, pool.train_pool.

Tested elsewhere: data in training/sft.
"""
