// How long a question can be answered yet, second by second. Without it the time of its end stands there.
"use strict";

(() => {
  const two = (number) => String(number).padStart(2, "0");

  function tick() {
    for (const time of document.querySelectorAll("time[data-until]")) {
      const left = Math.ceil((Date.parse(time.dateTime) - Date.now()) / 1000);
      const said = left > 0 ? `${Math.floor(left / 60)}:${two(left % 60)} left` : "expired";
      if (time.textContent !== said) time.textContent = said;
      time.classList.toggle("soon", left < 60);
    }
  }
  setInterval(tick, 1000);
  tick();
})();
