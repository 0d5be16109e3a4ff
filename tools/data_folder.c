/* What is in a folder of images or in tar shards: classes and their images; where asked for, which cannot be read. */
#include "core/base/alloc.h"
#include "tools/command.h"
#include "tools/data_check.h"
#include "tools/data_info.h"

#include <stdio.h>

enum { LISTED_CLASSES = 200 };

typedef struct folder {
  const qe_dataset *data;
  int64_t *count[2]; /* images of each class, training and test */
  bool checked;
  qe_bad_images found;
} folder;

static const char *const part_name[2] = {"training", "testing"};

static const char *name_of(const folder *f, int class, char number[16]) {
  if (f->data->class_names) return f->data->class_names[class];
  snprintf(number, 16, "%d", class);
  return number;
}

/* ---- printing ---- */

static void print_extremes(const folder *f) {
  for (int part = 0; part < 2; part++) {
    int least = 0, most = 0;
    char name[2][16];
    for (int i = 0; i < f->data->classes; i++) {
      if (f->count[part][i] < f->count[part][least]) least = i;
      if (f->count[part][i] > f->count[part][most]) most = i;
    }
    printf("%-16sfrom %lld images of %s to %lld of %s\n", part_name[part], (long long)f->count[part][least],
           name_of(f, least, name[0]), (long long)f->count[part][most], name_of(f, most, name[1]));
  }
  puts("                --json has all classes");
}

static void print_classes(const folder *f) {
  char number[16];
  printf("\n%-32s %10s %10s\n", "class", part_name[0], part_name[1]);
  for (int i = 0; i < f->data->classes; i++)
    printf("%-32s %10lld %10lld\n", name_of(f, i, number), (long long)f->count[0][i], (long long)f->count[1][i]);
}

static void print_text(const folder *f) {
  const qe_dataset *data = f->data;
  printf("%-16s%s\n%-16s%s\n", "data set", data->name, "lies in", data->source);
  printf("%-16s%d for training, %d for testing\n", "images", data->train_images, data->test_images);
  printf("%-16s%d\n", "classes", data->classes);
  if (data->classes > LISTED_CLASSES) print_extremes(f);
  if (!f->checked)
    printf("%-16slisted; --check decodes every image and names those that cannot be read\n", "files");
  else if (f->found.count == 0)
    printf("%-16severy image can be decoded\n", "files");
  else
    printf("%-16s%zu cannot be read:\n", "files", f->found.count);
  for (size_t i = 0; i < f->found.count; i++) printf("  %s\n", f->found.bad[i].why);
  if (data->classes <= LISTED_CLASSES) print_classes(f);
}

static void json_bad(qe_json *json, const folder *f) {
  qe_json_open_array(json, "bad");
  for (size_t i = 0; i < f->found.count; i++) {
    const qe_bad_image *bad = &f->found.bad[i];
    char file[4096];
    qe_image_list_name(&f->data->images->part[bad->part], bad->image, file, sizeof file);
    qe_json_open_object(json, NULL);
    qe_json_text(json, "file", file);
    qe_json_text(json, "why", bad->why);
    qe_json_close(json);
  }
  qe_json_close(json);
}

static qe_status print_json(const folder *f) {
  const qe_dataset *data = f->data;
  char number[16];
  qe_json json = {0};
  qe_json_open_object(&json, NULL);
  qe_json_text(&json, "name", data->name);
  qe_json_text(&json, "source", data->source);
  qe_json_int(&json, "train_images", data->train_images);
  qe_json_int(&json, "test_images", data->test_images);
  qe_json_int(&json, "classes", data->classes);
  qe_json_open_array(&json, "class_names");
  for (int i = 0; i < data->classes; i++) qe_json_text(&json, NULL, name_of(f, i, number));
  qe_json_close(&json);
  qe_data_json_counts(&json, "train_images_of_class", f->count[0], data->classes);
  qe_data_json_counts(&json, "test_images_of_class", f->count[1], data->classes);
  qe_json_bool(&json, "decoded", f->checked);
  if (f->checked) json_bad(&json, f);
  qe_json_close(&json);
  return qe_print_json(&json);
}

/* ---- the whole ---- */

/* Files that cannot be read are the result; that there are some is the failure that the exit code tells. */
static qe_status tell(const folder *f, bool json) {
  qe_status status = QE_OK;
  if (json)
    status = print_json(f);
  else
    print_text(f);
  if (status != QE_OK || f->found.count == 0) return status;
  return qe_fail(QE_FORMAT, "%s: %zu of %d images cannot be read: replace them, or remove them", f->data->source,
                 f->found.count, f->data->train_images + f->data->test_images);
}

qe_status qe_data_info_folder(const char *name, const qe_data_info_options *options) {
  qe_dataset *data;
  QE_TRY(qe_dataset_open_images(name, NULL, NULL, &data));
  folder f = {.data = data, .checked = options->check};
  f.count[0] = qe_data_count(data, data->train_labels, data->train_images);
  f.count[1] = qe_data_count(data, data->test_labels, data->test_images);
  qe_status status = f.count[0] && f.count[1] ? QE_OK : QE_NO_MEMORY;
  if (status == QE_OK && options->check)
    status = qe_data_check(data->images, options->threads, options->stop, &f.found);
  if (status == QE_OK) status = tell(&f, options->json);
  qe_bad_images_free(&f.found);
  qe_free(f.count[0]);
  qe_free(f.count[1]);
  qe_dataset_free(data);
  return status;
}
