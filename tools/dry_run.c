/* train --dry-run: the plan of a run, as comments below its config or as JSON. */
#include "tools/dry_run.h"

#include <math.h>
#include <string.h>

static double mib(size_t bytes) {
  return (double)bytes / (1 << 20);
}

const char *qe_dry_run_time(double seconds, char text[32]) {
  if (seconds < 100)
    snprintf(text, 32, "%.2g s", seconds);
  else if (seconds < 100.0 * 60)
    snprintf(text, 32, "%.0f min", seconds / 60);
  else
    snprintf(text, 32, "%.1f h", seconds / 3600);
  return text;
}

static size_t device_bytes(const qe_plan_phase *phase) {
  size_t bytes = 0;
  for (int i = 0; i < QE_PLAN_PARTS; i++) bytes += phase->device[i];
  return bytes;
}

/* What the largest phase takes of the host, program and libraries with it, or what came before the phases. */
static size_t host_most(const qe_plan *plan) {
  size_t most = plan->peak;
  for (int i = 0; i < plan->phases; i++) {
    size_t held = qe_plan_held(plan, &plan->phase[i], true) + plan->other;
    if (held > most) most = held;
  }
  return most;
}

/* ---- text ---- */

static void print_memory(const qe_plan *plan, const qe_plan_phase *phase) {
  printf("# memory of %s, MiB\n#   %-14s %10s %10s\n", phase->name, "", plan->host_memory ? "working" : "device",
         plan->host_memory ? "copies" : "host");
  for (int i = 0; i < QE_PLAN_PARTS; i++)
    if (phase->device[i] || phase->host[i])
      printf("#   %-14s %10.1f %10.1f\n", qe_plan_part_name((qe_plan_part)i), mib(phase->device[i]),
             mib(phase->host[i]));
  printf("#   %-14s %10s %10.1f  program, libraries and their scratch memory, measured\n", "other", "",
         mib(plan->other));
  size_t host = qe_plan_held(plan, phase, true) + plan->other, device = device_bytes(phase);
  if (plan->host_memory)
    printf("#   all: %.0f MiB, all of it the host's\n", mib(host));
  else
    printf("#   all: %.0f MiB of the device, %.0f MiB of the host\n", mib(device), mib(host));
}

static void print_time(const qe_plan_phase *phase) {
  char epoch[32], all[32];
  if (phase->images_per_second <= 0) {
    printf("# time of %s: not estimated: the reference backend is slow, 'qevo-gpu devices' lists others\n",
           phase->name);
    return;
  }
  qe_dry_run_time(phase->seconds, all);
  if (phase->epochs)
    printf("# time of %s: about %s an epoch, %s for %lld: an estimate from %lld steps, %.0f images/s\n", phase->name,
           qe_dry_run_time(phase->epoch_seconds, epoch), all, (long long)phase->epochs, (long long)phase->timed,
           phase->images_per_second);
  else
    printf("# time of %s: about %.3g candidate-images/s for stages that try candidates, an estimate from %lld of them; "
           "the budget%s%s\n",
           phase->name, phase->images_per_second, (long long)phase->timed,
           phase->budget ? " lasts " : " has no bound: the search ends when its stages are done",
           phase->budget ? all : "");
}

static void print_text(const qe_training *t, const qe_cost *cost, const qe_plan *plan) {
  const qe_bits *bits = &t->setting.spec.bits;
  const qe_setup *setup = t->setup;
  printf("# plan: %s of %s at %d-bit weights and %d-bit activations, on %s (%s)\n", t->method->name,
         t->setting.spec.name, bits->weights, bits->activations, setup->device->backend->name, setup->device->name);
  printf("# data: %s, %d training and %d test images\n", setup->data->source, setup->data->train_images,
         setup->data->test_images);
  printf("# network: %lld parameters, %lld multiply-adds an image, %lld bytes at its bits\n", (long long)cost->params,
         (long long)cost->macs, (long long)((cost->bits + 7) / 8));
  for (int i = 0; i < plan->phases; i++) print_memory(plan, &plan->phase[i]);
  printf("# host memory at most, with what comes before: %.0f MiB\n", mib(host_most(plan)));
  for (int i = 0; i < plan->phases; i++) print_time(&plan->phase[i]);
}

/* ---- JSON ---- */

static void json_memory(qe_json *json, const char *key, const size_t *bytes) {
  qe_json_open_object(json, key);
  for (int i = 0; i < QE_PLAN_PARTS; i++)
    if (bytes[i]) qe_json_int(json, qe_plan_part_name((qe_plan_part)i), (int64_t)bytes[i]);
  qe_json_close(json);
}

static void json_phase(qe_json *json, const qe_plan *plan, const qe_plan_phase *phase) {
  qe_json_open_object(json, NULL);
  qe_json_text(json, "phase", phase->name);
  json_memory(json, "device_bytes", phase->device);
  json_memory(json, "host_bytes", phase->host);
  qe_json_int(json, "host_bytes_all", (int64_t)(qe_plan_held(plan, phase, true) + plan->other));
  if (phase->epochs) qe_json_int(json, "epochs", phase->epochs);
  if (phase->budget) qe_json_int(json, "budget", phase->budget);
  if (phase->images_per_second > 0) {
    qe_json_real(json, phase->epochs ? "images_per_second" : "candidate_images_per_second", phase->images_per_second);
    if (phase->epochs) qe_json_real(json, "epoch_seconds", phase->epoch_seconds);
    if (phase->seconds > 0) qe_json_real(json, "seconds", phase->seconds);
    qe_json_int(json, "timed", phase->timed);
  }
  qe_json_close(json);
}

/* Members of an object. */
static void json_plan(qe_json *json, const qe_training *t, const qe_cost *cost, const qe_plan *plan) {
  const qe_bits *bits = &t->setting.spec.bits;
  qe_json_text(json, "method", t->method->name);
  qe_json_text(json, "model", t->setting.spec.name);
  qe_json_int(json, "weight_bits", bits->weights);
  qe_json_int(json, "act_bits", bits->activations);
  qe_json_text(json, "backend", t->setup->device->backend->name);
  qe_json_text(json, "device", t->setup->device->name);
  qe_json_text(json, "data", t->setup->data->source);
  qe_json_int(json, "params", cost->params);
  qe_json_int(json, "macs", cost->macs);
  qe_json_int(json, "bytes", (cost->bits + 7) / 8);
  qe_json_bool(json, "device_memory_is_hosts", plan->host_memory);
  qe_json_int(json, "other_bytes", (int64_t)plan->other);
  qe_json_int(json, "host_bytes", (int64_t)host_most(plan));
  qe_json_open_array(json, "phases");
  for (int i = 0; i < plan->phases; i++) json_phase(json, plan, &plan->phase[i]);
  qe_json_close(json);
}

static qe_status make_plan(const qe_training *t, qe_cost *cost, qe_plan *plan) {
  qe_graph *graph;
  QE_TRY(qe_model_build(&t->setting.spec, &graph));
  *cost = qe_graph_cost(graph, -1);
  qe_status status = qe_dump_graph(t->options, graph);
  qe_graph_free(graph);
  return status == QE_OK ? t->method->plan(&t->setting, plan) : status;
}

qe_status qe_dry_run(const qe_training *t, const char *config) {
  qe_cost cost;
  qe_plan plan;
  QE_TRY(make_plan(t, &cost, &plan));
  if (!qe_option_flag(t->options, "json")) {
    printf("%s#\n", config);
    print_text(t, &cost, &plan);
    puts(QE_NOTHING_TRAINED);
    return QE_OK;
  }
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  json_plan(&json, t, &cost, &plan);
  qe_json_text(&json, "config", config);
  qe_json_close(&json);
  return qe_print_json(&json);
}

qe_status qe_dry_run_step(const qe_training *t, const char *title, qe_json *json, double *seconds) {
  qe_cost cost;
  qe_plan plan;
  QE_TRY(make_plan(t, &cost, &plan));
  for (int i = 0; i < plan.phases; i++) *seconds += plan.phase[i].seconds > 0 ? plan.phase[i].seconds : (double)NAN;
  if (!json) {
    printf("#\n# %s\n", title);
    print_text(t, &cost, &plan);
    return QE_OK;
  }
  qe_json_open_object(json, NULL);
  qe_json_text(json, "step", title);
  json_plan(json, t, &cost, &plan);
  qe_json_close(json);
  return QE_OK;
}
