/* result.json of a run folder: what came of the run. */
#include "core/base/json_read.h"
#include "core/train/pipeline.h"
#include "core/train/run_parts.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

#define RESULT_FILE "result.json"

enum { RESULT_LIMIT = 1 << 20 };

void qe_run_scores_json(qe_json *json, const qe_run_scores *scores) {
  qe_json_real(json, "top1", scores->final.top1);
  qe_json_real(json, "loss", scores->final.loss);
  qe_json_int(json, "images", scores->final.images);
  if (scores->integer.images) {
    qe_json_real(json, "integer_top1", scores->integer.top1);
    qe_json_real(json, "integer_loss", scores->integer.loss);
  }
  if (scores->start.images) {
    qe_json_real(json, "start_top1", scores->start.top1);
    qe_json_real(json, "start_loss", scores->start.loss);
  }
}

qe_status qe_run_keep_result(const qe_run *run, const char *text) {
  return run->options.folder ? qe_run_keep_file(run, RESULT_FILE, text) : QE_OK;
}

static double number(const cJSON *root, const char *key) {
  const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, key);
  return cJSON_IsNumber(item) && isfinite(item->valuedouble) ? item->valuedouble : (double)NAN;
}

static qe_score take_score(const cJSON *root, const char *top1, const char *loss, int64_t images) {
  qe_score score = {.top1 = number(root, top1), .loss = number(root, loss), .images = images};
  return isfinite(score.top1) && isfinite(score.loss) ? score : (qe_score){0};
}

static void take_scores(const cJSON *root, qe_run_scores *scores) {
  int64_t images;
  if (!qe_json_whole(cJSON_GetObjectItemCaseSensitive(root, "images"), 1, INT32_MAX, &images)) return;
  scores->final = take_score(root, "top1", "loss", images);
  scores->integer = take_score(root, "integer_top1", "integer_loss", images);
  scores->start = take_score(root, "start_top1", "start_loss", images);
}

qe_status qe_run_read_scores(const char *folder, qe_run_scores *scores) {
  cJSON *root;
  memset(scores, 0, sizeof *scores);
  QE_TRY(qe_json_find(folder, RESULT_FILE, RESULT_LIMIT, &root));
  take_scores(root, scores);
  cJSON_Delete(root);
  return QE_OK;
}
