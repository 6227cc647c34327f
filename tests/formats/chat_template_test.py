"""Chat templates: as transformers writes them, on any day, in any place, or refused."""

import datetime
import os
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from jswarm.formats import chat_template
from jswarm.formats import tokenizer as tokenizer_lib
from jswarm.wiring.defaults import get_config

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
CHATML = (
  "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
  "{{ '<|im_start|>system\nHelp.<|im_end|>\n' }}{% endif %}"
  "{{'<|im_start|>' + message['role'] + '\n'}}{{ message['content'] + '<|im_end|>\n' }}"
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
GEMMA = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first = messages[0]['content'] + '\n\n' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate") }}
    {%- endif -%}
    {{ '<start_of_turn>' + message['role'] + '\n' + (first if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}{{ item['text'] | trim }}{%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{'<start_of_turn>model\n'}}{%- endif -%}
"""
LLAMA = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{{- "Cutting Knowledge Date: December 2023\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
"""
MIXED = """{%- set ns = namespace(n=0) %}
{% for m in messages %}
  {% generation %}{{ m | tojson }}{% endgeneration %}
  {% set ns.n = ns.n + 1 %}{% if ns.n > 3 %}{% break %}{% endif %}
{% endfor %}
{{ tools is none }} {{ documents is none }} {{ dict(a=1) | tojson(indent=2) }}
{{ messages[0].content.split()[-1:] }} {{ "%s!" | format(eos_token) }}
"""


def _tokenizer(template):
  tokenizer = Tokenizer(models.WordLevel({"<unk>": 0}, unk_token="<unk>"))
  return PreTrainedTokenizerFast(
    tokenizer_object=tokenizer, chat_template=template, **SPECIAL
  )


@pytest.mark.parametrize("template", [CHATML, GEMMA, MIXED])
@given(prompt=st.text(max_size=30))
@settings(deadline=None, max_examples=40)
def test_a_turn_is_written_as_transformers_writes_it(template, prompt):
  theirs = _tokenizer(template).apply_chat_template(
    [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
  )
  ours = chat_template.render(template, prompt, SPECIAL, chat_template.TODAY, "here")
  assert ours == theirs


def test_a_template_that_reads_the_clock_sees_the_pinned_date():
  write = lambda today: chat_template.render(LLAMA, "Hi", SPECIAL, today, "here")
  assert "Today Date: 26 Jul 2024\n" in write(chat_template.TODAY)
  assert "Today Date: 01 Mar 2031\n" in write("2031-03-01")
  assert chat_template.reads_clock(LLAMA) and not chat_template.reads_clock(GEMMA)


FORMS = "%a|%A|%b|%B|%h|%c|%x|%X|%r|%p|%d|%-d|%m|%y|%Y|%H|%I|%j|%Z|%z|%%|%^a|%Ey|%s|%D"


@pytest.mark.parametrize("zone", ["UTC", "XXX12", "XXX-14", "Europe/Berlin"])
def test_the_pinned_clock_is_the_same_everywhere(zone):
  code = (
    "import locale, datetime; from jswarm.formats import chat_template\n"
    "for name in ('de_DE.UTF-8', ''):\n"
    "  try: locale.setlocale(locale.LC_ALL, name); break\n"
    "  except locale.Error: pass\n"
    f"print(chat_template.pinned(chat_template.date('2024-07-26'), {FORMS!r}))"
  )
  said = subprocess.run(
    [sys.executable, "-c", code],
    env={**os.environ, "TZ": zone, "LC_ALL": "", "LANG": "de_DE.UTF-8"},
    capture_output=True,
    text=True,
    check=True,
  ).stdout.strip()
  assert said == (
    "Fri|Friday|Jul|July|Jul|Fri Jul 26 00:00:00 2024|07/26/24|00:00:00|12:00:00 AM|AM|"
    "26|26|07|24|2024|00|12|208|||%|FRI|24|1721952000|07/26/24"
  )


def test_the_words_of_the_clock_are_those_of_python_in_the_c_locale():
  for day in range(400):
    now = datetime.datetime(2023, 12, 1, 13, 5) + datetime.timedelta(day)
    form = "%a %A %b %B %c %x %X %r %p %d %% %U"
    assert chat_template.pinned(now, form) == now.strftime(form)


def test_a_date_that_is_none_is_refused():
  for today in ("today", "26.07.2024", "2024-13-01", None, 20240726):
    with pytest.raises(ValueError, match="pool.today is .*allowed: a date as 2024"):
      chat_template.date(today)


def test_the_default_date_stands_in_the_configuration():
  assert get_config().pool.today == chat_template.TODAY


def test_the_fingerprint_has_the_date_where_the_template_reads_it():
  marks = {}
  for name, template in (("clock", LLAMA), ("plain", CHATML)):
    tokenizer = _tokenizer(template)
    plain = tokenizer_lib.fingerprint(tokenizer)
    tokenizer.today = "2031-03-01"
    marks[name] = (plain, tokenizer_lib.fingerprint(tokenizer))
  assert marks["clock"][0] != marks["clock"][1]
  assert marks["plain"][0] == marks["plain"][1]


# As in Qwen3: an empty thought, which the model takes for one that has ended.
THINKS = (
  "{{ messages[0].content }}|"
  "{%- if enable_thinking is defined and enable_thinking is false -%}"
  "<think>\n\n</think>\n\n{%- endif -%}"
)
DEEP = "{{ messages[0].content }}|{{ '<think>' if thinking else '</think>' }}"


@pytest.mark.parametrize(
  "template, thinking, written",
  [
    (THINKS, None, "Hi|"),
    (THINKS, True, "Hi|"),
    (THINKS, False, "Hi|<think>\n\n</think>"),
    (DEEP, None, "Hi|</think>"),
    (DEEP, True, "Hi|<think>"),
    (DEEP, False, "Hi|</think>"),
    (CHATML, False, None),
  ],
)
def test_a_template_that_can_is_told_whether_to_think(template, thinking, written):
  write = lambda wish: chat_template.render(
    template, "Hi", SPECIAL, chat_template.TODAY, "here", wish
  )
  said = write(thinking)
  assert said == (write(None) if written is None else written)


def test_the_fingerprint_has_the_wish_to_think_where_it_reaches_the_template():
  for template, reaches in ((THINKS, True), (DEEP, True), (CHATML, False)):
    tokenizer = _tokenizer(template)
    marks = set()
    for wish in (None, True, False):
      tokenizer.thinking = wish
      marks.add(tokenizer_lib.fingerprint(tokenizer))
    assert len(marks) == (3 if reaches else 1)


def test_a_wish_that_no_template_reads_is_told(caplog):
  for template, thinking, said in (
    (CHATML, False, 1), (CHATML, None, 0), (THINKS, False, 0), (None, False, 0),
  ):  # fmt: skip
    tokenizer = _tokenizer(template)
    tokenizer.thinking = thinking
    caplog.clear()
    tokenizer_lib.check_template(tokenizer)
    assert len(caplog.records) == said
    assert all("pool.thinking=False changes nothing" in m for m in caplog.messages)


BROKEN = {
  "a loop without an end": ("{% for m in messages %}{{ m.content }}", "is no Jinja"),
  "an unknown tag": ("{% frobnicate %}", "is no Jinja"),
  "a filter that is not there": ("{{ messages | nope }}", "is no Jinja"),
  "a wish for a system message": (
    "{{ raise_exception('first message must be of the system') }}",
    "fails.*first message must be of the system",
  ),
  "a field that is not there": ("{{ messages[3].content + 'x' }}", "fails"),
  "a sum of text and number": ("{{ messages[0].content + 1 }}", "fails.*TypeError"),
  "a division by zero": ("{{ 1 // 0 }}", "fails.*ZeroDivisionError"),
  "another file": ("{% include 'secrets' %}", "fails"),
  "a way out of the sandbox": (
    "{{ messages.__class__.__mro__ }}",
    "fails.*SecurityError",
  ),
  "a random choice": ("{{ ['a', 'b'] | random }}", r"draws \['random'\]"),
  "random words": ("{{ lipsum() }}", r"draws \['lipsum'\]"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_template_is_a_sentence_with_its_place(what):
  template, message = BROKEN[what]
  tokenizer = _tokenizer(template)
  tokenizer.name_or_path = "/models/broken"
  with pytest.raises(ValueError, match=f"/models/broken: its chat template.*{message}"):
    tokenizer_lib.encode(tokenizer, ["Hello"], chat=True)
  with pytest.raises(ValueError, match="/models/broken"):
    tokenizer_lib.check_template(tokenizer)


def test_of_several_templates_the_default_is_used():
  several = {"default": "D {{ messages[0].content }}", "rag": "R"}
  assert chat_template.chosen(several, "here") == several["default"]
  assert chat_template.chosen("", "here") is None
  with pytest.raises(ValueError, match=r"here has chat templates named \['rag'\]"):
    chat_template.chosen({"rag": "R"}, "here")
