"""Reading takes time linear in the reply: no pattern goes back over a long text."""

import time

import pytest

from jswarm.tasks import options, parse

# (signs, seconds): linear readers take a tenth of that, quadratic ones many times it.
SIZES = [(10_000, 1.0), pytest.param(100_000, 5.0, marks=pytest.mark.slow)]
CHOICES = {"A": "Paris", "B": "Rome", "C": "New York", "D": "1/2"}
PIECES = (
  "a", "A", "A ", "B. ", "(A) ", "A: x B: y C: z D: w ", "A or ", "1", "1,", "1,000",
  "-", "1/", "1 1/2 ", ".", "1.", "2^", "3×10^", "$", "$-", " ", "\n", "\t ", "answer ",
  "answer is ", "The answer is B. ", "answer to the ", "if the answer would be C ",
  "not ", "not B ", "n't ", "Question:", "\nQuestion: ", "x\nQ: ", "####", "\\boxed{",
  "\\boxed{1}", "\\frac", "\\frac{", "\\frac{1}", "\\frac{1}{2}", "\\sqrt{", "\\sqrt[",
  "\\text{", "{", "}", "{,}", "1{,}000", "\\", "\\,", "<think>", "</think>",
  "<think></think>", "[THINK]", "<answer>", "<|channel|>", "**", "**1", "**1**", "*",
  "_", "`", "(", ")", "[", "Rating: ", "Rating (", "rate it ", "7/10 ",
  "10/10/", "out of ",
  "true ",
  "true or false ", "not true ", "yes ", "I don't know ", "北", "答案是", "不是北京",
  "カ",
  "서울", "ก", "½", "１", "e\u0301", "\u0301", "é", "\ud800", "\u200b",
  "' ", "one hundred ",
  "one-", "十", "Paris ", "paris or rome ", "choose ", "wait, ", "no, ",
  "students pick D ",
  "minus ", "between 1 and ", "5 to ", "5-", "million ", "%", "50% ", "the ",
  "##", "# answer\n",
)  # fmt: skip
READERS = {
  "choose": lambda text: options.choose(text, CHOICES),
  "exact, a number": lambda text: parse.exact("42", text),
  "exact, words": lambda text: parse.exact("São Paulo", text),
  "exact, one sign": lambda text: parse.exact("猫", text),
  "exact, yes": lambda text: parse.exact("yes", text),
  "f1": lambda text: parse.f1("the cat sat", text),
  "rating": parse.rating,
  "says_true": parse.says_true,
  "refuses": parse.refuses,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("size, seconds", SIZES)
def test_no_reply_of_a_hundred_thousand_signs_takes_long(reader, size, seconds):
  for piece in PIECES:
    for text in (piece * (size // len(piece)), "The answer is " + piece * (size // 5)):
      start = time.process_time()
      READERS[reader](text)
      taken = time.process_time() - start
      assert taken < seconds, (piece, len(text), taken)
