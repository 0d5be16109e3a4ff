/* Lowering: gradients of whole networks against finite differences of the loss, the recomputing backward pass against
 * one that keeps everything, every quantiser rule, and backends against each other. */
#include "core/graph/layers.h"
#include "core/train/trainer.h"
#include "tests/async_device.h"
#include "tests/rig.h"

enum { BATCH = 6 };

static qe_dataset *data;

static int open_all(void **state) {
  data = small_data(8, 4, 5, 12, 6);
  return fixture_open(state);
}
static int close_all(void **state) {
  qe_dataset_free(data);
  return fixture_close(state);
}

/* ---- a network of every layer type ---- */

static qe_node conv(qe_graph *graph, const char *name, qe_node input, qe_window window, bool bias) {
  static const qe_quantizer floats = {.bits = QE_FLOAT_BITS};
  return qe_graph_conv(graph, name, input, &window, bias, &floats);
}

static qe_graph *every_layer(void) {
  static const qe_quantizer floats = {.bits = QE_FLOAT_BITS};
  static const qe_window grouped = {{3, 3}, {1, 1}, {1, 1}, {1, 1, 1, 1}, 2, 8},
                         strided = {{3, 2}, {2, 2}, {1, 1}, {1, 0, 1, 0}, 1, 6},
                         dilated = {{3, 3}, {2, 2}, {2, 2}, {2, 2, 2, 2}, 8, 8},
                         halving = {{2, 2}, {2, 2}, {1, 1}, {0, 0, 0, 0}, 1, 0},
                         overlapping = {{3, 3}, {2, 2}, {1, 1}, {1, 1, 1, 1}, 1, 0};
  qe_graph *g;
  OK(qe_graph_new(&g));
  qe_node x = qe_graph_input(g, "input", data->height, data->width, data->channels);
  x = conv(g, "conv1", x, grouped, true);
  x = qe_graph_batch_norm(g, "bn1", x, 1e-2f, 0.1f);
  x = qe_graph_clamp(g, "clamp1", x, -1.0f, 1.25f);
  qe_node a = conv(g, "conv2", x, strided, false), b = conv(g, "conv3", x, dilated, true);
  qe_node sub = qe_graph_subsample(g, "subsample", x, 2, 11);
  qe_node most = qe_graph_max_pool(g, "max_pool", x, &halving),
          mean = qe_graph_avg_pool(g, "avg_pool", x, &overlapping);
  qe_node sum = qe_graph_add(g, "add1", qe_graph_add(g, "add0", most, b), mean);
  sum = qe_graph_add(g, "add2", sum, sum);
  x = qe_graph_concat(g, "concat2", qe_graph_concat(g, "concat1", a, sub), sum);
  x = qe_graph_batch_norm(g, "bn2", x, 1e-2f, 0.1f);
  x = qe_graph_clamp(g, "relu2", x, 0, INFINITY);
  x = conv(g, "conv4", x, qe_square(1, 1, 0, 6), false);
  qe_node flat = qe_graph_linear(g, "fc1", qe_graph_flatten(g, "flatten", x), data->classes, true, &floats);
  qe_node pooled = qe_graph_linear(g, "fc2", qe_graph_global_pool(g, "pool", x), data->classes, false, &floats);
  qe_graph_add(g, "logits", flat, pooled);
  OK(qe_graph_finish(g));
  return g;
}

/* Steps that fit, activations' so that some clip; biases of many values, so that no sum on a grid hits a bound. */
static qe_model *quantized_model(const net_options *options) {
  qe_model *model = model_of(residual_net(data, options), 3);
  OK(qe_fit_steps(fixture_device[0], model, data, 1));
  draws from = {9, 0};
  for (size_t i = 0; i < model->graph->params; i++) {
    const qe_param *param = &model->graph->param[i];
    if (strstr(param->name, ".step")) *qe_model_values(model, (int)i) *= 0.375f;
    if (strstr(param->name, ".bias"))
      draw_reals(&from, qe_model_values(model, (int)i), qe_count(&param->desc), -0.2f, 0.2f);
  }
  return model;
}

/* ---- finite differences ---- */

/* Central difference of the loss over one value; a step this small seldom spans a kink. */
static double difference(rig *r, float *value) {
  const float half = 1.0f / 4096;
  float kept = *value;
  *value = kept + half;
  double above = rig_run(r);
  *value = kept - half;
  double below = rig_run(r);
  *value = kept;
  return (above - below) / (2 * (double)half);
}

static void check_param(rig *r, const float *gradients, const qe_param *param) {
  enum { MOST = 24 };
  int64_t count = qe_count(&param->desc), stride = count / MOST + 1;
  size_t start = param->offset / sizeof(float);
  double error = 0, norm = 0;
  for (int64_t i = 0; i < count; i += stride) {
    double wanted = difference(r, r->model->values + start + i), got = (double)gradients[start + (size_t)i];
    error += (got - wanted) * (got - wanted);
    norm += wanted * wanted;
  }
  /* A bias before batch norm has no effect: its gradient is 0, the difference rounding. */
  if (error > 1e-4 * norm && error > 1e-7 * (double)(count / stride + 1))
    fail_msg("%s: gradient differs from differences, error %g of %g", param->name, error, norm);
}

static void gradients_are_those_of_the_loss(void **state) {
  (void)state;
  net_options plain = {0}, no_norm = {.no_norm = true}, quantized = {.weight_bits = 4, .act_bits = 4};
  const struct {
    qe_graph *graph;
    qe_lower_options options;
  } nets[] = {
      {every_layer(), {.smoothing = 0}},
      {every_layer(), {.smoothing = 0.2f, .scale = 0.5f / BATCH}},
      {residual_net(data, &plain), {.smoothing = 0}},
      {residual_net(data, &no_norm), {.smoothing = 0.1f}},
      {residual_net(data, &quantized), {.plain = true}}, /* quantisers off: a float network */
  };
  for (size_t n = 0; n < sizeof nets / sizeof *nets; n++) {
    qe_model *model = model_of(nets[n].graph, 11 + n);
    draws from = {n, 0};
    for (size_t i = 0; i < model->graph->params; i++) { /* away from the even start */
      const qe_param *param = &model->graph->param[i];
      float *values = qe_model_values(model, (int)i);
      if (param->group == QE_GROUP_SCALE)
        for (int64_t k = 0; k < qe_count(&param->desc); k++) values[k] += draw_real(&from, -0.3f, 0.3f);
    }
    rig backward, forward;
    qe_lower_options options = nets[n].options;
    options.batch = BATCH;
    options.training = true;
    rig_open(&forward, fixture_device[0], model, data, options);
    options.backward = true;
    rig_open(&backward, fixture_device[0], model, data, options);
    float *gradients = rig_gradients(&backward);
    double factor = options.scale > 0 ? (double)options.scale * BATCH : 1;
    for (int64_t i = 0; i < model_count(model); i++) gradients[i] = (float)((double)gradients[i] / factor);
    for (size_t i = 0; i < model->graph->params; i++)
      if (model->graph->param[i].group == QE_GROUP_WEIGHT || model->graph->param[i].group == QE_GROUP_SCALE)
        check_param(&forward, gradients, &model->graph->param[i]);
    qe_free(gradients);
    rig_close(&forward);
    rig_close(&backward);
    qe_model_free(model);
  }
}

/* ---- the backward pass recomputes, or keeps ---- */

static float *gradients_of(qe_device *device, const qe_model *model, qe_lower_options options) {
  rig r;
  options.batch = BATCH;
  options.training = options.backward = true;
  rig_open(&r, device, model, data, options);
  float *gradients = rig_gradients(&r);
  rig_close(&r);
  return gradients;
}

/* Every kind of quantised network that the tests below go through. */
static const net_options quantized_nets[] = {
    {.weight_bits = 4, .act_bits = 4},
    {.weight_bits = 2, .act_bits = 3, .per_channel = true},
    {.weight_bits = 3, .act_bits = 4, .weight_rule = QE_RULE_DOREFA, .act_rule = QE_RULE_DOREFA},
    {.weight_bits = 4, .act_bits = 4, .weight_rule = QE_RULE_L2, .act_rule = QE_RULE_PACT, .no_norm = true},
    {.weight_bits = 8, .act_bits = 6, .weight_rule = QE_RULE_MAX, .act_rule = QE_RULE_L2},
    {.weight_bits = 4},
    {.act_bits = 4},
};
enum { QUANTIZED_NETS = sizeof quantized_nets / sizeof *quantized_nets };

static void recomputing_changes_nothing(void **state) {
  (void)state;
  for (int n = 0; n <= QUANTIZED_NETS; n++) {
    qe_model *model = n < QUANTIZED_NETS ? quantized_model(&quantized_nets[n]) : model_of(every_layer(), 4);
    FOR_EACH_DEVICE(device) {
      float *lean = gradients_of(device, model, (qe_lower_options){.keep_outputs = false});
      float *full = gradients_of(device, model, (qe_lower_options){.keep_outputs = true});
      if (memcmp(lean, full, qe_graph_param_bytes(model->graph)) != 0)
        fail_msg("network %d on %s: gradients differ by %g", n, device->backend->name,
                 normalised_error(lean, full, model_count(model)));
      qe_free(lean);
      qe_free(full);
    }
    qe_model_free(model);
  }
}

static void backends_agree(void **state) {
  (void)state;
  if (!fixture_device[1]) skip();
  for (int n = 0; n <= QUANTIZED_NETS; n++) {
    qe_model *model = n < QUANTIZED_NETS ? quantized_model(&quantized_nets[n]) : model_of(every_layer(), 4);
    float *ref = gradients_of(fixture_device[0], model, (qe_lower_options){.smoothing = 0.1f});
    float *cpu = gradients_of(fixture_device[1], model, (qe_lower_options){.smoothing = 0.1f});
    double error = normalised_error(cpu, ref, model_count(model));
    if (!(error < 1e-8)) fail_msg("network %d: gradients differ by %g", n, error);
    qe_free(ref);
    qe_free(cpu);
    qe_model_free(model);
  }
}

/* Memory that the host cannot see, and nothing done before a wait: the same bits as on the reference. */
static void lowered_for_a_device_without_host_memory(void **state) {
  (void)state;
  qe_device *device = async_open(NULL, 0);
  qe_model *model = quantized_model(&quantized_nets[0]);
  float *far = gradients_of(device, model, (qe_lower_options){.keep_outputs = false});
  float *near = gradients_of(fixture_device[0], model, (qe_lower_options){.keep_outputs = false});
  assert_memory_equal(far, near, qe_graph_param_bytes(model->graph));
  qe_free(far);
  qe_free(near);
  qe_model_free(model);
  qe_device_close(device);
}

/* ---- quantisers ---- */

static float *param_values(const qe_model *model, float *flat, const char *name) {
  int at = qe_graph_find_param(model->graph, name);
  if (at < 0) fail_msg("no parameter is called %s", name);
  return flat + model->graph->param[at].offset / sizeof(float);
}

/* Every parameter of `to` from the one of that name. */
static void copy_values(const qe_model *from, qe_model *to) {
  for (size_t i = 0; i < to->graph->params; i++) {
    const qe_param *param = &to->graph->param[i];
    memcpy(qe_model_values(to, (int)i), param_values(from, from->values, param->name), qe_bytes(&param->desc));
  }
}

/* What two quantisers with steps of their own learn is what one shared step learns in sum. */
static void a_shared_step_learns_from_both(void **state) {
  (void)state;
  net_options options = {.weight_bits = 4, .act_bits = 4};
  qe_model *shared = quantized_model(&options);
  qe_graph *graph;
  OK(qe_graph_new(&graph));
  qe_quantizer weights = net_weights(&options);
  qe_node x = qe_graph_input(graph, "input", data->height, data->width, data->channels);
  x = net_conv(graph, "conv1", x, 8, &options);
  qe_node wide = net_activation(graph, "wide", x, &options, 2, -1);
  qe_quantizer apart = {.bits = 4, .rule = QE_RULE_LSQ, .grid = QE_GRID_UNSIGNED, .round_up = true};
  qe_node low = qe_graph_quant(graph, "low", wide, &apart, -1);
  x = qe_graph_add(graph, "add", net_conv(graph, "conv2", low, 8, &options), wide);
  x = qe_graph_global_pool(graph, "pool", net_activation(graph, "act2", x, &options, 0, -1));
  qe_graph_linear(graph, "fc", x, data->classes, true, &weights);
  OK(qe_graph_finish(graph));
  qe_model *own = model_of(graph, 3);
  for (size_t i = 0; i < graph->params; i++) {
    const char *name = strcmp(graph->param[i].name, "low.step") == 0 ? "wide.step" : graph->param[i].name;
    memcpy(qe_model_values(own, (int)i), param_values(shared, shared->values, name), qe_bytes(&graph->param[i].desc));
  }
  float *together = gradients_of(fixture_device[0], shared, (qe_lower_options){.smoothing = 0});
  float *single = gradients_of(fixture_device[0], own, (qe_lower_options){.smoothing = 0});
  float sum = *param_values(own, single, "wide.step") + *param_values(own, single, "low.step");
  float both = *param_values(shared, together, "wide.step");
  assert_true(fabsf(*param_values(own, single, "low.step")) > 1e-4f * fabsf(both));
  assert_true(fabsf(both - sum) <= 1e-5f * fabsf(sum));
  assert_memory_equal(param_values(shared, together, "conv1.weight"), param_values(own, single, "conv1.weight"),
                      8 * 9 * 4 * sizeof(float));
  qe_free(together);
  qe_free(single);
  qe_model_free(shared);
  qe_model_free(own);
}

/* Straight through: the float network at the quantised weights has the gradients of the quantised one, but for clipped
 * weights, and the steps learn what LSQ's equation 3 makes of them. */
static void straight_through_weights(void **state) {
  (void)state;
  for (int per_channel = 0; per_channel < 2; per_channel++) {
    net_options options = {.weight_bits = 3, .per_channel = per_channel}, floats = {0};
    qe_model *model = quantized_model(&options), *plain = model_of(residual_net(data, &floats), 3);
    static const char *const layers[] = {"conv1", "conv2", "fc"};
    char name[2][64];
    copy_values(model, plain);
    for (int l = 0; l < 3; l++) {
      snprintf(name[0], 64, "%s.weight", layers[l]);
      snprintf(name[1], 64, "%s.weight_step", layers[l]);
      const float *w = param_values(model, model->values, name[0]), *step = param_values(model, model->values, name[1]);
      float *q = param_values(plain, plain->values, name[0]);
      const qe_desc *desc = &plain->graph->param[qe_graph_find_param(plain->graph, name[0])].desc;
      int64_t count = qe_count(desc), each = per_channel ? count / desc->dim[QE_N] : count;
      for (int64_t i = 0; i < count; i++) q[i] = step[i / each] * fminf(fmaxf(rintf(w[i] / step[i / each]), -4), 3);
    }
    float *through = gradients_of(fixture_device[0], model, (qe_lower_options){.smoothing = 0});
    float *used = gradients_of(fixture_device[0], plain, (qe_lower_options){.smoothing = 0});
    int clipped = 0;
    for (int l = 0; l < 3; l++) {
      snprintf(name[0], 64, "%s.weight", layers[l]);
      snprintf(name[1], 64, "%s.weight_step", layers[l]);
      const float *w = param_values(model, model->values, name[0]), *step = param_values(model, model->values, name[1]);
      const float *dw = param_values(model, through, name[0]), *dq = param_values(plain, used, name[0]);
      const float *dstep = param_values(model, through, name[1]);
      const qe_desc *desc = &plain->graph->param[qe_graph_find_param(plain->graph, name[0])].desc;
      int64_t count = qe_count(desc), each = per_channel ? count / desc->dim[QE_N] : count;
      for (int64_t start = 0; start < count; start += each) {
        double learned = 0, size = 0;
        for (int64_t i = start; i < start + each; i++) {
          float v = w[i] / step[start / each];
          bool inside = v > -4 && v < 3;
          clipped += !inside;
          assert_true(fabsf(dw[i] - (inside ? dq[i] : 0)) <= 1e-6f + 1e-4f * fabsf(dq[i]));
          double slope = inside ? (double)rintf(v) - (double)v : v > 0 ? 3 : -4;
          learned += (double)dq[i] * slope;
          size += fabs((double)dq[i] * slope);
        }
        learned /= sqrt((double)each * 3);
        assert_true(fabs((double)dstep[start / each] - learned) <= 1e-5 * size);
      }
    }
    assert_true(clipped > 0);
    qe_free(through);
    qe_free(used);
    qe_model_free(model);
    qe_model_free(plain);
  }
}

/* DoReFa: the gradient goes on through tanh(w) / max |tanh(w)|. */
static void straight_through_dorefa_weights(void **state) {
  (void)state;
  net_options options = {.weight_bits = 3, .weight_rule = QE_RULE_DOREFA}, floats = {0};
  qe_model *model = quantized_model(&options), *plain = model_of(residual_net(data, &floats), 3);
  copy_values(model, plain);
  static const char *const names[] = {"conv1.weight", "conv2.weight", "fc.weight"};
  double largest[3] = {0};
  for (int l = 0; l < 3; l++) {
    int64_t count = qe_count(&plain->graph->param[qe_graph_find_param(plain->graph, names[l])].desc);
    float *w = param_values(plain, plain->values, names[l]);
    for (int64_t i = 0; i < count; i++) largest[l] = fmax(largest[l], fabs(tanh((double)w[i])));
    for (int64_t i = 0; i < count; i++) {
      double code = 2 * rint((tanh((double)w[i]) / largest[l] * 7 + 7) / 2) - 7;
      w[i] = (float)(code / 7);
    }
  }
  float *through = gradients_of(fixture_device[0], model, (qe_lower_options){.smoothing = 0});
  float *used = gradients_of(fixture_device[0], plain, (qe_lower_options){.smoothing = 0});
  for (int l = 0; l < 3; l++) {
    int64_t count = qe_count(&plain->graph->param[qe_graph_find_param(plain->graph, names[l])].desc);
    const float *w = param_values(model, model->values, names[l]), *dw = param_values(model, through, names[l]);
    const float *dq = param_values(plain, used, names[l]);
    double error = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
      double t = tanh((double)w[i]), wanted = (double)dq[i] * (1 - t * t) / largest[l];
      if (fabs(t) >= largest[l]) continue; /* on the bound */
      error += ((double)dw[i] - wanted) * ((double)dw[i] - wanted);
      norm += wanted * wanted;
    }
    assert_true(norm > 0 && error < 1e-8 * norm);
  }
  qe_free(through);
  qe_free(used);
  qe_model_free(model);
  qe_model_free(plain);
}

/* A step with a shift of 2 is a step of a quarter; it learns a quarter of what that learns. */
static void shifted_steps(void **state) {
  (void)state;
  float *gradients[2];
  qe_model *models[2];
  for (int shift = 0; shift < 2; shift++) {
    qe_graph *graph;
    OK(qe_graph_new(&graph));
    net_options floats = {0};
    qe_quantizer weights = net_weights(&floats);
    qe_quantizer act = {.bits = 5, .rule = QE_RULE_LSQ, .grid = QE_GRID_UNSIGNED, .step_shift = 2 * shift};
    qe_node x = qe_graph_input(graph, "input", data->height, data->width, data->channels);
    x = qe_graph_quant(graph, "act", net_conv(graph, "conv1", x, 8, &floats), &act, -1);
    qe_graph_linear(graph, "fc", qe_graph_global_pool(graph, "pool", x), data->classes, true, &weights);
    OK(qe_graph_finish(graph));
    models[shift] = model_of(graph, 3);
    *param_values(models[shift], models[shift]->values, "act.step") = shift ? 0.25f : 0.0625f;
    gradients[shift] = gradients_of(fixture_device[0], models[shift], (qe_lower_options){.smoothing = 0});
  }
  float whole = *param_values(models[0], gradients[0], "act.step");
  float shifted = *param_values(models[1], gradients[1], "act.step");
  assert_true(whole > 0 || whole < 0);
  assert_true(fabsf(shifted - whole / 4) <= 1e-6f * fabsf(whole));
  assert_memory_equal(param_values(models[0], gradients[0], "conv1.weight"),
                      param_values(models[1], gradients[1], "conv1.weight"), 8 * 9 * 4 * sizeof(float));
  for (int i = 0; i < 2; i++) {
    qe_free(gradients[i]);
    qe_model_free(models[i]);
  }
}

/* All pairs of rules lower, have finite gradients and train a step, which moves learned steps and no fixed one. */
static void every_rule_trains_a_step(void **state) {
  (void)state;
  FOR_EACH_DEVICE(device) {
    for (int pair = 0; pair < 2 * QE_RULES * QE_RULES; pair++) {
      net_options options = {.weight_bits = 3,
                             .act_bits = 3,
                             .weight_rule = (qe_rule)(pair % QE_RULES),
                             .act_rule = (qe_rule)(pair / QE_RULES % QE_RULES),
                             .per_channel = pair >= QE_RULES * QE_RULES};
      qe_model *model = quantized_model(&options), *before = quantized_model(&options);
      qe_train_options train = qe_train_defaults();
      train.epochs = 1;
      train.batch = 12;
      train.weight_decay = 0;
      train.pad = 0;
      qe_trainer *trainer;
      OK(qe_trainer_new(device, model, data, &train, &trainer));
      OK(qe_trainer_epoch(trainer, NULL, NULL));
      OK(qe_trainer_download(trainer, false));
      for (size_t i = 0; i < model->graph->params; i++) {
        const qe_param *param = &model->graph->param[i];
        const float *was = qe_model_values(before, (int)i), *is = qe_model_values(model, (int)i);
        bool moved = memcmp(was, is, qe_bytes(&param->desc)) != 0, step = strstr(param->name, "step") != NULL;
        if (moved != (!step || param->group == QE_GROUP_STEP))
          fail_msg("%s with weights by %s and activations by %s: %s %s", device->backend->name,
                   qe_rule_name(options.weight_rule), qe_rule_name(options.act_rule), param->name,
                   moved ? "moved" : "stayed");
        for (int64_t k = 0; k < qe_count(&param->desc); k++) assert_true(isfinite(is[k]) && (!step || is[k] > 0));
      }
      qe_trainer_free(trainer);
      qe_model_free(model);
      qe_model_free(before);
    }
  }
}

/* ---- modes ---- */

static void statistics_move_in_training_only(void **state) {
  (void)state;
  net_options options = {.weight_bits = 4, .act_bits = 4};
  qe_model *model = quantized_model(&options);
  FOR_EACH_DEVICE(device) {
    for (int training = 0; training < 2; training++) {
      rig r;
      rig_open(&r, device, model, data, (qe_lower_options){.batch = BATCH, .training = training, .keep_outputs = true});
      rig_run(&r);
      float *after = rig_read(&r, r.params);
      int64_t count;
      float *x = rig_output(&r, "conv1", &count);
      double mean = 0, square = 0, rows = (double)count / 8;
      for (int64_t i = 0; i < count; i += 8) mean += (double)x[i] / rows;
      for (int64_t i = 0; i < count; i += 8) square += ((double)x[i] - mean) * ((double)x[i] - mean);
      float running_mean = *param_values(model, after, "conv1_norm.running_mean");
      float running_var = *param_values(model, after, "conv1_norm.running_var");
      if (training) {
        assert_true(fabs((double)running_mean - 0.1 * mean) < 1e-6);
        assert_true(fabs((double)running_var - 0.9 - 0.1 * square / (rows - 1)) < 1e-6);
      } else {
        assert_memory_equal(after, model->values, qe_graph_param_bytes(model->graph));
      }
      qe_free(x);
      qe_free(after);
      rig_close(&r);
    }
  }
  qe_model_free(model);
}

/* Recomputed statistics must not count twice. */
static void statistics_move_once_a_step(void **state) {
  (void)state;
  net_options options = {.weight_bits = 4, .act_bits = 4};
  qe_model *model = quantized_model(&options);
  float *after[2];
  for (int backward = 0; backward < 2; backward++) {
    rig r;
    rig_open(&r, fixture_fast(), model, data,
             (qe_lower_options){.batch = BATCH, .training = true, .backward = backward});
    rig_run(&r);
    after[backward] = rig_read(&r, r.params);
    rig_close(&r);
  }
  assert_memory_equal(after[0], after[1], qe_graph_param_bytes(model->graph));
  qe_free(after[0]);
  qe_free(after[1]);
  qe_model_free(model);
}

static void a_plain_network_is_the_float_one(void **state) {
  (void)state;
  net_options options = {.weight_bits = 2, .act_bits = 2, .per_channel = true}, floats = {0};
  qe_model *quantized = quantized_model(&options), *plain = model_of(residual_net(data, &floats), 3);
  copy_values(quantized, plain);
  rig r[3];
  rig_open(&r[0], fixture_device[0], quantized, data, (qe_lower_options){.batch = BATCH, .plain = true});
  rig_open(&r[1], fixture_device[0], plain, data, (qe_lower_options){.batch = BATCH});
  rig_open(&r[2], fixture_device[0], quantized, data, (qe_lower_options){.batch = BATCH});
  double loss[3];
  for (int i = 0; i < 3; i++) {
    loss[i] = rig_run(&r[i]);
    rig_close(&r[i]);
  }
  assert_true(loss[0] == loss[1]);
  assert_true(loss[0] != loss[2]);
  qe_model_free(quantized);
  qe_model_free(plain);
}

/* ---- what is refused ---- */

static qe_status lower_with(const qe_graph *graph, qe_lower_options options) {
  qe_queue *queue;
  qe_buffer *params;
  qe_image_store store;
  qe_session session;
  OK(qe_queue_new(fixture_device[0], &queue));
  OK(qe_buffer_new(fixture_device[0], qe_graph_param_bytes(graph) + 64, &params));
  OK(qe_image_store_new(queue, data, false, &store));
  qe_status status = qe_session_new(queue, graph, &options, params, params, &store, &session);
  if (status == QE_OK) qe_session_free(&session);
  qe_image_store_free(&store);
  qe_buffer_free(params);
  qe_queue_free(queue);
  return status;
}

static void what_cannot_be_lowered(void **state) {
  (void)state;
  net_options floats = {0};
  qe_graph *graph = residual_net(data, &floats), *open, *wide;
  FAILS(QE_USAGE, lower_with(graph, (qe_lower_options){.batch = 0}), "batch 0");
  FAILS(QE_USAGE, lower_with(graph, (qe_lower_options){.batch = 4, .backward = true}), "conv2_norm");
  qe_graph_free(graph);
  OK(qe_graph_new(&open));
  qe_graph_input(open, "input", data->height, data->width, data->channels);
  FAILS(QE_USAGE, lower_with(open, (qe_lower_options){.batch = 4}), "finished");
  qe_graph_free(open);
  OK(qe_graph_new(&wide));
  qe_graph_input(wide, "input", data->height, data->width, data->channels);
  conv(wide, "maps", 0, qe_square(3, 1, 1, 5), false);
  OK(qe_graph_finish(wide));
  FAILS(QE_SHAPE, lower_with(wide, (qe_lower_options){.batch = 4}), "H = W = 1");
  qe_graph_free(wide);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gradients_are_those_of_the_loss),
      cmocka_unit_test(recomputing_changes_nothing),
      cmocka_unit_test(backends_agree),
      cmocka_unit_test(lowered_for_a_device_without_host_memory),
      cmocka_unit_test(a_shared_step_learns_from_both),
      cmocka_unit_test(straight_through_weights),
      cmocka_unit_test(straight_through_dorefa_weights),
      cmocka_unit_test(shifted_steps),
      cmocka_unit_test(every_rule_trains_a_step),
      cmocka_unit_test(statistics_move_in_training_only),
      cmocka_unit_test(statistics_move_once_a_step),
      cmocka_unit_test(a_plain_network_is_the_float_one),
      cmocka_unit_test(what_cannot_be_lowered),
  };
  return cmocka_run_group_tests(tests, open_all, close_all);
}
