// What the page knows.

export const state = {
  file: null,
  request: null, // the AbortController of the request under way
  reply: null,
  asked: "", // the query that `reply` answers
  threshold: 0.3,
  count: 100,
  classes: new Set(),
  visible: [],
  active: null, // index into `visible`
  pinned: null,
};
