// The ties between preact's components and what the page knows.

import { known, listen } from "./store.js";
import { useEffect, useState } from "./vendor/preact.js";

/** Draw a component anew whenever one of these topics changes; `every`: not more often than so many milliseconds. */
export function useKnown(topics, every = 0) {
  const [, again] = useState(0);
  useEffect(() => {
    let timer = null;
    let last = 0;
    const draw = () => {
      timer = null;
      last = performance.now();
      again((count) => count + 1);
    };
    const changed = () => {
      if (timer !== null) return;
      const wait = every - (performance.now() - last);
      if (wait <= 0) draw();
      else timer = setTimeout(draw, wait);
    };
    const ends = topics.map((topic) => listen(topic, changed));
    return () => {
      clearTimeout(timer);
      for (const end of ends) end();
    };
  }, []);
  return known;
}

/** Draw a component anew every so many milliseconds. */
export function useClock(every) {
  const [, again] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => again((count) => count + 1), every);
    return () => clearInterval(timer);
  }, []);
}

/** Load something when `keys` change: [value, error, load again]. */
export function useLoaded(load, keys) {
  const [state, set] = useState([null, null]);
  const [count, again] = useState(0);
  useEffect(() => {
    let wanted = true;
    load().then(
      (value) => wanted && set([value, null]),
      (error) => wanted && set(([old]) => [old, error]),
    );
    return () => {
      wanted = false;
    };
  }, [...keys, count]);
  return [...state, () => again((before) => before + 1)];
}
