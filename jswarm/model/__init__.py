"""From tokens to tokens, in arrays alone: the decoder of all families and its loops.

  architecture -> attention, layers, lora -> decoder -> sampling -> lanes -> speculate
  decoder -> scoring, fusion    of given tokens; of several experts in lockstep
  generate: a whole batch at once, the reference; quantize: kernels in 8 bits

Public: architecture.DecoderConfig, decoder.make_decoder, decoder.Decoder,
sampling.Sampling, generate.generate, lora.Packed, lora.Grouped,
scoring.log_probs, scoring.mean_states, fusion.prefill, fusion.step.

Tested elsewhere: architecture, attention, layers, lora in model/decoder. sampling,
lanes, speculate in model/generate. quantize in engine/batcher.
"""
