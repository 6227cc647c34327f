"use strict";
(() => {
  const MOST = 500; // questions listed at a time
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const list = find("list"), trace = find("trace"), count = find("count");

  // An element with text: what a model said is never read as markup.
  const make = (tag, text, name) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (name) made.className = name;
    return made;
  };
  const number = (x) => (x === null ? "none" : String(Math.round(x * 1000) / 1000));
  const gold = (q) => (Array.isArray(q.gold) ? q.gold.join(" | ") : q.gold);

  const isOf = {
    all: () => true,
    right: (q) => q.right,
    wrong: (q) => !q.right,
    gained: (q) => q.change === "gained",
    lost: (q) => q.change === "lost",
  };
  const inside = (q) => {
    if (!q.words) {
      const said = q.nodes.map((n) => n.expert + "\n" + n.prompt + "\n" + n.reply);
      q.words = [q.id, q.question, gold(q), q.reply, ...said].join("\n").toLowerCase();
    }
    return q.words;
  };

  const block = (title, text) => {
    const pre = make("pre", text === "" ? "(nothing)" : text);
    pre.tabIndex = 0;
    pre.setAttribute("aria-label", title);
    return [make("h4", title), pre];
  };

  const show = (q, button) => {
    for (const other of list.querySelectorAll("[aria-current]"))
      other.removeAttribute("aria-current");
    button.setAttribute("aria-current", "true");
    trace.replaceChildren(make("h3", "Question " + q.id));
    const verdict = make("p");
    verdict.append(
      make("strong", q.right ? "Right" : "Wrong", q.right ? "right" : "wrong"),
      ", score " + number(q.score) + "; the best single expert scored " +
        number(q.single) + (q.change ? ": " + q.change + "." : "."),
    );
    trace.append(verdict, ...block("Question", q.question));
    trace.append(...block("Gold answer", gold(q)), ...block("Final answer", q.reply));
    if (q.single_reply !== null)
      trace.append(...block("Answer of the best single expert", q.single_reply));
    for (const node of q.nodes) {
      const part = make("details");
      const heard = node.heard.length ? ", heard " + node.heard.join(", ") : "";
      part.append(
        make("summary", "node " + node.node + ", " + node.expert + heard + ": " +
          node.reply.slice(0, 60)),
        ...block("Prompt, " + node.tokens[0] + " tokens", node.prompt),
        ...block("Reply, " + node.tokens[1] + " tokens", node.reply),
      );
      trace.append(part);
    }
  };

  const choose = (q, button) => {
    show(q, button);
    history.replaceState(null, "", "#question-" + q.index);
    trace.focus({ preventScroll: window.innerWidth > 736 });
  };

  const draw = () => {
    const kind = new FormData(find("filters")).get("kind");
    const words = find("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = data.questions.filter(
      (q) => isOf[kind](q) && words.every((w) => inside(q).includes(w)),
    );
    const items = found.slice(0, MOST).map((q) => {
      const button = make("button");
      button.type = "button";
      button.dataset.index = q.index;
      const tag = (q.right ? "right" : "wrong") + (q.change ? ", " + q.change : "");
      button.append(
        make("span", tag, "tag " + (q.right ? "right" : "wrong")),
        q.question.trim().slice(0, 90) || q.id,
      );
      button.addEventListener("click", () => choose(q, button));
      const item = make("li");
      item.append(button);
      return item;
    });
    list.replaceChildren(...items);
    const cut = found.length > MOST ? ", the first " + MOST + " are listed" : "";
    count.textContent = found.length + " of " + data.questions.length +
      " questions" + cut + ".";
  };

  if (list) {
    const form = find("filters");
    form.addEventListener("input", draw);
    form.addEventListener("submit", (event) => event.preventDefault());
    // Up and down walk the list, as in any list of choices.
    list.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      const all = [...list.querySelectorAll("button")];
      const next = all[all.indexOf(document.activeElement) + step];
      if (next) next.focus();
      event.preventDefault();
    });
    draw();
    const linked = location.hash.match(/^#question-(\d+)$/);
    const button = linked && list.querySelector('[data-index="' + linked[1] + '"]');
    if (button) button.click();
  }

  if (document.body.dataset.live) {
    let seen = null;
    const look = async () => {
      try {
        const now = await (await fetch("version", { cache: "no-store" })).text();
        const busy = document.activeElement === find("words"); // somebody types
        if (seen !== null && now !== seen && !busy) location.reload();
        seen = now;
      } catch {
        find("live").textContent = "the search is over, or its server is gone";
      }
    };
    look();
    setInterval(look, 5000);
  }
})();
