/* qevo-gpu train: one training or a pipeline of them; the result to stdout. */
#include "core/base/alloc.h"
#include "tools/dry_run.h"
#include "tools/recipes.h"
#include "tools/train_choice.h"
#include "tools/train_pipeline.h"
#include "tools/train_search.h"
#include "tools/training.h"
#include "tools/unheeded.h"

static void print_search(const qe_result *result) {
  if (result->held_out.images)
    printf("held out (%lld training images): %.2f %% top-1, loss %.4f; at the start %.2f %%, %.4f\n",
           (long long)result->held_out.images, result->held_out.top1, result->held_out.loss,
           result->start_held_out.top1, result->start_held_out.loss);
  printf("%lld candidate-images in %.0f s\n", (long long)result->candidate_images, result->seconds);
}

static qe_status print_result(const qe_training *t, const qe_result *result) {
  if (!qe_option_flag(t->options, "json")) {
    if (result->start.images)
      printf("before training: %.2f %% top-1, loss %.4f\n", result->start.top1, result->start.loss);
    if (result->searched) print_search(result);
    printf("test accuracy: %.2f %% top-1, loss %.4f, %lld images (%s, seed %lld, backend %s)\n", result->final.top1,
           result->final.loss, (long long)result->final.images, t->setup->data->source,
           (long long)qe_option_int(t->options, "seed"), t->setup->device->backend->name);
    if (result->integer.images)
      printf("as an integer network: %.2f %% top-1, loss %.4f\n", result->integer.top1, result->integer.loss);
    return QE_OK;
  }
  qe_json json = {0};
  qe_training_write_result(&json, t, result);
  qe_json_text(&json, "out", qe_option_text(t->options, "out"));
  qe_json_close(&json);
  return qe_print_json(&json);
}

static qe_status train(const qe_training *t, const char *config) {
  qe_result result;
  qe_run_options place = qe_training_place(t->options, config);
  qe_note_unheeded(t);
  if (qe_option_flag(t->options, "dry-run")) {
    QE_TRY(qe_run_check(&place));
    return qe_dry_run(t, config);
  }
  if (qe_option_flag(t->options, "find-rate")) return qe_training_find_rate(t);
  if (!place.folder) fputs("note: without --out nothing is kept: no checkpoints, no model\n", stderr);
  QE_TRY(qe_training_run(t, &place, &result));
  return print_result(t, &result);
}

qe_status qe_cmd_train(qe_options *options) {
  const qe_method *method;
  qe_setup setup = {0};
  qe_training training;
  bool searches;
  if (qe_option_flag(options, "list")) return qe_recipes_print(options);
  QE_TRY(qe_train_choose(options, &method));
  QE_TRY(qe_search_wanted(options, &searches));
  if (searches) return qe_train_search(options);
  if (!method) return qe_train_pipeline(options);
  qe_status status = qe_training_open(options, method, &setup, &training);
  char *config = status == QE_OK ? qe_options_dump(options) : NULL;
  if (status == QE_OK) status = config ? train(&training, config) : QE_NO_MEMORY;
  qe_free(config);
  qe_setup_close(&setup);
  return status;
}
