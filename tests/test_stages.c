/* Networks cut into stages: nothing lost, nothing read before it is made, and what goes together. */
#include "core/dispatch/stages.h"

#include "tests/network_draw.h"

static const network_limits any = {.extent = 7, .channels = 6, .blocks = 8};

static bool is_requant(const qe_network_layer *layer) {
  return layer->op == QE_OP_int_requant || layer->op == QE_OP_int_requant_add;
}

static bool stores(const qe_stage *stage, int32_t tensor) {
  return stage->output[0] == tensor || stage->output[1] == tensor;
}

/* What `stage` reads has been stored by a stage before it, and the last reader is not before it. */
static void check_reads(const qe_stages *s, int32_t at) {
  const qe_stage *stage = &s->stage[at];
  const int32_t read[] = {stage->from[0].tensor, stage->from[1].tensor, stage->skip};
  for (size_t k = 0; k < 3; k++) {
    if (read[k] == QE_NO_LAYER) continue;
    int32_t maker = s->stage_of[read[k]];
    assert_in_range(maker, 0, at - 1);
    assert_true(stores(&s->stage[maker], read[k]));
    assert_true(s->reader[read[k]] >= at);
  }
}

/* A window fits the tensor that it is applied to and gives the layer's output. */
static void check_window(const qe_network *network, const qe_stage_source *from) {
  if (from->tensor == QE_NO_LAYER) return;
  const qe_desc *in = &network->layer[from->tensor].output, *out = &network->layer[from->layer].output;
  const qe_window *w = &from->window;
  assert_int_equal(out->dim[QE_C], w->channels);
  for (int axis = 0; axis < 2; axis++) {
    int32_t reach = (w->kernel[axis] - 1) * w->dilation[axis] + 1;
    int32_t extent = (in->dim[QE_H + axis] + w->pad[axis] + w->pad[axis + 2] - reach) / w->stride[axis] + 1;
    assert_int_equal(extent, out->dim[QE_H + axis]);
  }
}

/* The branches of the requantiser are what the stage says they are. */
static void check_branches(const qe_network *network, const qe_stage *stage) {
  if (stage->requant == QE_NO_LAYER) return;
  const qe_network_layer *layer = &network->layer[stage->requant];
  int32_t first = stage->kind == QE_STAGE_LOAD ? stage->from[0].tensor : stage->from[0].layer;
  assert_int_equal(layer->input[stage->sums_branch], first);
  if (layer->inputs == 1) {
    assert_int_equal(stage->skip, QE_NO_LAYER);
    assert_int_equal(stage->from[1].layer, QE_NO_LAYER);
    return;
  }
  int32_t other = layer->input[1 - stage->sums_branch];
  assert_true((stage->skip == other) != (stage->from[1].layer == other));
}

static void check_stages(const qe_network *network, const qe_stages *s) {
  assert_int_equal(s->stage[0].kind, QE_STAGE_GATHER);
  assert_int_equal(s->stage[s->stages - 1].requant, network->layers - 1);
  for (size_t i = 0; i < network->layers; i++) {
    assert_in_range(s->stage_of[i], 0, s->stages - 1);
    if (s->reader[i] != QE_NO_LAYER) assert_true(stores(&s->stage[s->stage_of[i]], (int32_t)i));
  }
  for (size_t i = 0; i < s->stages; i++) {
    check_reads(s, (int32_t)i);
    check_branches(network, &s->stage[i]);
    for (int k = 0; k < 2; k++) check_window(network, &s->stage[i].from[k]);
  }
}

static void random_networks(void **state) {
  (void)state;
  draws from = {11, 0};
  int cut = 0, coarser = 0, pairs = 0;
  for (int round = 0; round < 400; round++) {
    qe_network *network = network_drawn(&from, any, 3);
    qe_stages *stages = NULL;
    if (!qe_stages_refuse(network)) {
      OK(qe_stages_new(network, NULL, &stages));
      check_stages(network, stages);
      cut++;
      for (size_t i = 0; i < stages->stages; i++) {
        coarser += stages->stage[i].coarser != QE_NO_LAYER;
        pairs += stages->stage[i].from[1].layer != QE_NO_LAYER;
      }
    }
    qe_stages_free(stages);
    qe_network_free(network);
  }
  assert_true(cut > 300);
  assert_true(coarser > 50);
  assert_true(pairs > 10);
}

/* A coarser requantiser that evolves is a stage of its own, and then the finer codes are stored. */
static void evolving_shift(void **state) {
  (void)state;
  draws from = {12, 0};
  int seen = 0;
  for (int round = 0; round < 60; round++) {
    qe_network *network = network_drawn(&from, any, 3);
    qe_stages *fixed, *evolving;
    bool *evolves = QE_NEW_ARRAY(bool, network->layers);
    OK(qe_stages_new(network, NULL, &fixed));
    for (size_t i = 0; i < network->layers; i++) evolves[i] = is_requant(&network->layer[i]);
    OK(qe_stages_new(network, evolves, &evolving));
    check_stages(network, evolving);
    for (size_t i = 0; i < fixed->stages; i++) {
      int32_t layer = fixed->stage[i].coarser;
      if (layer == QE_NO_LAYER) continue;
      const qe_stage *own = &evolving->stage[evolving->stage_of[layer]];
      assert_int_equal(own->kind, QE_STAGE_LOAD);
      assert_int_equal(own->requant, layer);
      seen++;
    }
    qe_free(evolves);
    qe_stages_free(fixed);
    qe_stages_free(evolving);
    qe_network_free(network);
  }
  assert_true(seen > 10);
}

/* Sums that a second layer reads cannot stay inside a stage. */
static void refused(void **state) {
  (void)state;
  draws from = {13, 0};
  qe_network *network = network_drawn(&from, any, 3);
  assert_null(qe_stages_refuse(network));
  size_t last = network->layers - 1;
  qe_dtype to = network->layer[last].output.dtype;
  network->layer[last].output.dtype = QE_U8;
  assert_string_equal(qe_stages_refuse(network), "a network that does not end in a requantiser to logits");
  network->layer[last].output.dtype = to;
  network->layer[last].inputs = 2;
  network->layer[last].input[1] = network->layer[last].input[0];
  assert_string_equal(qe_stages_refuse(network), "sums that are not read by one requantiser");
  network->layer[last].inputs = 1;
  qe_network_free(network);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(random_networks), cmocka_unit_test(evolving_shift),
                                     cmocka_unit_test(refused)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
