/* What is in a data set: figures of its images and labels, a check of its files. */
#include "tools/data_info.h"

#include "core/base/alloc.h"
#include "core/data/image_set.h"
#include "tools/command.h"
#include "tools/fetch/get.h"

#include <math.h>
#include <string.h>

enum { LINE_CLASSES = 10 };

/* ---- figures ---- */

void qe_data_measure(const qe_dataset *data, qe_data_moments *moments) {
  uint64_t sum[QE_DATA_CHANNELS] = {0}, squares[QE_DATA_CHANNELS] = {0}; /* exact: below 2^64 for 2^47 pixels */
  size_t pixels = (size_t)data->train_images * (size_t)data->height * (size_t)data->width;
  size_t channels = (size_t)data->channels;
  moments->channels = data->channels < QE_DATA_CHANNELS ? data->channels : QE_DATA_CHANNELS;
  for (size_t at = 0; at < pixels; at++)
    for (int c = 0; c < moments->channels; c++) {
      unsigned value = data->train_pixels[at * channels + (size_t)c];
      sum[c] += value;
      squares[c] += value * value;
    }
  for (int c = 0; c < moments->channels; c++) {
    double mean = (double)sum[c] / (double)pixels, variance = (double)squares[c] / (double)pixels - mean * mean;
    moments->mean[c] = mean / 255;
    moments->deviation[c] = sqrt(variance > 0 ? variance : 0) / 255;
  }
}

int64_t *qe_data_count(const qe_dataset *data, const int32_t *labels, int images) {
  int64_t *counts = QE_NEW_ARRAY(int64_t, data->classes);
  for (int at = 0; counts && at < images; at++) counts[labels[at]]++;
  return counts;
}

/* ---- the files ---- */

/* What the check of the files says; a static text. */
static qe_status check_files(const qe_dataset *data, bool (*stop)(void), const char **text) {
  const qe_remote *set = qe_remote_find(data->name);
  qe_check found;
  *text = "read without a complaint";
  if (data->subset || !set) return QE_OK;
  QE_TRY(qe_get_check(set, data->source, stop, &found));
  *text = found == QE_CHECK_SUMS ? "every file has its SHA-256"
          : qe_get_available()   ? "sizes are right; there is no " QE_SUMS_FILE " to check contents with: "
                                   "'qevo-gpu data get' writes one"
                                 : "sizes are right; contents cannot be checked here (no libcrypto)";
  return QE_OK;
}

/* ---- printing ---- */

typedef struct info {
  const qe_dataset *data;
  qe_data_moments moments;
  const int64_t *train, *test; /* images of each class */
  const char *check;
} info;

void qe_data_json_counts(qe_json *json, const char *key, const int64_t *counts, int classes) {
  qe_json_open_array(json, key);
  for (int at = 0; at < classes; at++) qe_json_int(json, NULL, counts[at]);
  qe_json_close(json);
}

static void json_reals(qe_json *json, const char *key, const double *values, int count) {
  qe_json_open_array(json, key);
  for (int at = 0; at < count; at++) qe_json_real(json, NULL, values[at]);
  qe_json_close(json);
}

static qe_status print_json(const info *i) {
  const qe_dataset *data = i->data;
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_json_text(&json, "name", data->name);
  qe_json_text(&json, "source", data->source);
  qe_json_bool(&json, "subset", data->subset);
  qe_json_int(&json, "train_images", data->train_images);
  qe_json_int(&json, "test_images", data->test_images);
  qe_json_int(&json, "classes", data->classes);
  qe_json_open_array(&json, "shape");
  qe_json_int(&json, NULL, data->height);
  qe_json_int(&json, NULL, data->width);
  qe_json_int(&json, NULL, data->channels);
  qe_json_close(&json);
  json_reals(&json, "mean", i->moments.mean, i->moments.channels);
  json_reals(&json, "deviation", i->moments.deviation, i->moments.channels);
  qe_data_json_counts(&json, "train_images_of_class", i->train, data->classes);
  qe_data_json_counts(&json, "test_images_of_class", i->test, data->classes);
  qe_json_text(&json, "check", i->check);
  qe_json_close(&json);
  return qe_print_json(&json);
}

static void print_reals(const char *label, const double *values, int count) {
  printf("%-16s", label);
  for (int at = 0; at < count; at++) printf("%s%.4f", at ? " " : "", values[at]);
  putchar('\n');
}

/* "all classes N", or a line for every ten classes. */
static void print_counts(const char *label, const int64_t *counts, int classes) {
  bool even = true;
  for (int at = 1; at < classes; at++) even = even && counts[at] == counts[0];
  if (even) {
    printf("%-16s%lld of each class\n", label, (long long)counts[0]);
    return;
  }
  for (int at = 0; at < classes; at++) {
    if (at % LINE_CLASSES == 0) printf("%-16s", at ? "" : label);
    printf("%s%lld", at % LINE_CLASSES ? " " : "", (long long)counts[at]);
    if (at % LINE_CLASSES == LINE_CLASSES - 1 || at == classes - 1) putchar('\n');
  }
}

static void print_text(const info *i) {
  const qe_dataset *data = i->data;
  const qe_remote *set = qe_remote_find(data->name);
  printf("%-16s%s\n%-16s%s\n", "data set", data->name, "lies in", data->source);
  if (set) printf("%-16s%s\n", "made by", set->origin);
  printf("%-16s%d for training, %d for testing\n", "images", data->train_images, data->test_images);
  printf("%-16s%d x %d pixels, %d channel%s\n", "shape", data->height, data->width, data->channels,
         data->channels == 1 ? "" : "s");
  printf("%-16s%d\n", "classes", data->classes);
  print_counts("training", i->train, data->classes);
  print_counts("testing", i->test, data->classes);
  print_reals("mean", i->moments.mean, i->moments.channels);
  print_reals("deviation", i->moments.deviation, i->moments.channels);
  printf("%-16s%s\n", "files", i->check);
}

qe_status qe_data_info(const char *name, const qe_data_info_options *options) {
  qe_dataset *data;
  if (strncmp(name, QE_FOLDER_PREFIX, strlen(QE_FOLDER_PREFIX)) == 0) return qe_data_info_folder(name, options);
  QE_TRY(qe_dataset_open(name, options->data_dir, &data));
  info i = {.data = data};
  int64_t *train = qe_data_count(data, data->train_labels, data->train_images);
  int64_t *test = qe_data_count(data, data->test_labels, data->test_images);
  qe_status status = train && test ? QE_OK : QE_NO_MEMORY;
  i.train = train;
  i.test = test;
  if (status == QE_OK) status = check_files(data, options->stop, &i.check);
  if (status == QE_OK) {
    qe_data_measure(data, &i.moments);
    if (options->json)
      status = print_json(&i);
    else
      print_text(&i);
  }
  qe_free(train);
  qe_free(test);
  qe_dataset_free(data);
  return status;
}
