/* A lowered network with its parameters on a device, for tests of lowering: one batch in, loss, logits and gradients
 * out. */
#ifndef QE_TESTS_RIG_H
#define QE_TESTS_RIG_H

#include "core/train/session.h"
#include "tests/fixture.h"

typedef struct rig {
  qe_queue *queue;
  const qe_model *model;
  qe_buffer *params, *gradients;
  qe_image_store store;
  qe_session session;
  int32_t *index;
} rig;

static inline void rig_open(rig *r, qe_device *device, const qe_model *model, const qe_dataset *data,
                            qe_lower_options options) {
  size_t bytes = qe_graph_param_bytes(model->graph);
  *r = (rig){.model = model};
  OK(qe_queue_new(device, &r->queue));
  OK(qe_buffer_new(device, bytes, &r->params));
  OK(qe_buffer_new(device, bytes, &r->gradients));
  OK(qe_image_store_new(r->queue, data, false, &r->store));
  OK(qe_session_new(r->queue, model->graph, &options, r->params, r->gradients, &r->store, &r->session));
  r->index = QE_NEW_ARRAY(int32_t, options.batch);
  assert_non_null(r->index);
  for (int32_t i = 0; i < options.batch; i++) r->index[i] = i;
}

static inline void rig_close(rig *r) {
  qe_session_free(&r->session);
  qe_image_store_free(&r->store);
  qe_buffer_free(r->params);
  qe_buffer_free(r->gradients);
  qe_queue_free(r->queue);
  qe_free(r->index);
}

/* Mean loss of one batch, the images in order, with the model's present values. */
static inline double rig_run(rig *r) {
  double loss = 0;
  int64_t hits = 0;
  OK(qe_queue_write(r->queue, r->params, 0, r->model->values, qe_graph_param_bytes(r->model->graph)));
  OK(qe_session_run(&r->session, r->index, r->session.batch, 5, 0, &loss, &hits));
  return loss / r->session.batch;
}

/* New memory (qe_free) with the bytes of a buffer in the parameters' layout. */
static inline float *rig_read(rig *r, qe_buffer *buffer) {
  size_t bytes = qe_graph_param_bytes(r->model->graph);
  float *values = qe_alloc(bytes);
  assert_non_null(values);
  OK(qe_queue_read(r->queue, buffer, 0, values, bytes));
  OK(qe_queue_wait(r->queue));
  return values;
}

/* Run, and hand out the gradients. */
static inline float *rig_gradients(rig *r) {
  rig_run(r);
  return rig_read(r, r->gradients);
}

/* New memory (qe_free) with the values of a node's output; *count its elements. */
static inline float *rig_output(rig *r, const char *node, int64_t *count) {
  qe_value value = r->session.lowered.output[qe_graph_find_node(r->model->graph, node)];
  qe_desc desc = qe_program_desc(r->session.lowered.program, value);
  float *values = qe_alloc(qe_bytes(&desc));
  assert_non_null(values);
  OK(qe_program_read(r->session.lowered.program, r->queue, value, values));
  *count = qe_count(&desc);
  return values;
}

#endif
