/* The bench `data`: whether images come faster than a network can be trained on them. Sets in memory: training steps,
 * and the device's drawing and augmenting alone. Folders (--data folder:PATH, else photographs made for the purpose):
 * the loader alone, and libturbojpeg alone. */
#include "tools/bench_data.h"

#include "core/base/alloc.h"
#include "tools/setup.h"

#include <string.h>

static qe_status run_photos(const qe_options *options, qe_bench_row **rows, size_t *count) {
  char *path = NULL, *name = NULL;
  qe_dataset *data = NULL;
  QE_TRY(qe_bench_photos_new(&path));
  name = qe_format(QE_FOLDER_PREFIX "%s", path);
  qe_status status = name ? qe_open_data(options, name, qe_option_real(options, "crop-area"), &data) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_bench_folder(options, data, rows, count);
  qe_dataset_free(data);
  qe_free(name);
  qe_bench_photos_free(path);
  return status;
}

/* Rows that `bench all` has made before. */
static bool has_training(const qe_bench_row *rows, size_t count) {
  for (size_t i = 0; i < count; i++)
    if (strcmp(rows[i].bench, "train") == 0) return true;
  return false;
}

/* A set that is in memory, on each device. */
static qe_status run_resident(const qe_options *options, const qe_dataset *data, qe_bench_row **rows, size_t *count) {
  qe_bench_devices devices;
  if (!has_training(*rows, *count)) QE_TRY(qe_bench_train(options, rows, count));
  QE_TRY(qe_bench_devices_open(options, &devices));
  qe_status status = qe_bench_resident(options, &devices, data, rows, count);
  qe_bench_devices_close(&devices);
  return status;
}

qe_status qe_bench_data(const qe_options *options, qe_bench_row **rows, size_t *count) {
  qe_dataset *data = NULL;
  QE_TRY(qe_open_data(options, qe_option_text(options, "data"), qe_option_real(options, "crop-area"), &data));
  qe_status status =
      data->images ? qe_bench_folder(options, data, rows, count) : run_resident(options, data, rows, count);
  if (status == QE_OK && !data->images) status = run_photos(options, rows, count);
  qe_dataset_free(data);
  return status;
}
