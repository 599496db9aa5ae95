// What the page knows.

export const state = {
  file: null,
  request: null, // the AbortController of the request under way
  reply: null,
  asked: "", // the query that `reply` answers
  auto: false, // whether `reply` holds what the thresholds of its model's weights keep
  threshold: 0.3,
  count: 100,
  classes: new Set(),
  visible: [],
  active: null, // index into `visible`
  pinned: null,

  /** The least score shown: where the service has chosen by the weights' own thresholds, all of them. */
  get least() {
    return this.auto ? 0 : this.threshold;
  },
};
