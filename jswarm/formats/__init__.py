"""Files to trees of arrays and back: Hugging Face, PEFT, GGUF, tokenizers.

  tensor_files -> hf_config -> hf_model -> hf_export
  peft_targets -> peft_adapter
  gguf_file -> gguf_config -> gguf_model -> gguf_export
  chat_template -> gguf_tokenizer -> tokenizer

Public: hf_model.load_base, hf_model.save_base, peft_adapter.load_adapter,
peft_adapter.save_adapter, gguf_model.load_base, tokenizer.load_tokenizer.

Tested elsewhere: tensor_files, hf_config, hf_export, peft_adapter in formats/hf_model.
gguf_file, gguf_config in formats/gguf_model.
"""
