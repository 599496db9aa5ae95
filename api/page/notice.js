// What is wrong, in words, and when it is worth another try.

import { at } from "./elements.js";

let countdown;

/** Says what is wrong; `retry` is null (trying again is of no use) or the seconds to wait before it is. */
export function complain(message, retry = null) {
  clearNotice();
  const soon = retry ? ` It may be tried again in ${retry} ${retry === 1 ? "second" : "seconds"}.` : "";
  at.alert.textContent = message + soon;
  at.notice.classList.add("shown");
  at.retry.hidden = retry === null;
  if (retry === null) return;
  const until = performance.now() + retry * 1000;
  const tick = () => {
    const left = Math.ceil((until - performance.now()) / 1000);
    at.retry.disabled = left > 0;
    at.retry.textContent = left > 0 ? `Try again in ${left} s` : "Try again";
    if (left <= 0) clearInterval(countdown);
  };
  countdown = setInterval(tick, 250);
  tick();
}

export function clearNotice() {
  clearInterval(countdown);
  at.notice.classList.remove("shown");
  at.alert.textContent = "";
  at.retry.hidden = at["key-form"].hidden = true;
}
