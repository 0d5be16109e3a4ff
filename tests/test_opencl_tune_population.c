/* The opencl backend's tuner on populations: the number that chooses among the kernels of the layout `lanes`, by a
 * clock that the test sets. Whatever is chosen, losses are those of op by op; devices opened later take it. */
enum { CLASSES = 3, IMAGES = 9, COUNT = 20, CANDIDATES = 3 };
#include "tests/opencl_rig.h"
#include "tests/population_draw.h"

static const char number[] = "host.QK_LANES_PIXELS"; /* 1 of 1, 2, 4 */
static const char cache[] = QE_BINARY_DIR "/cache-tune";
static double fake_now;

static double fake_clock(void) {
  return fake_now;
}

typedef struct scene {
  qe_device *device;
  qe_network *network;
  qe_genome_layout *layout;
  uint8_t *genomes;
  images on;
  int64_t wanted[CANDIDATES];
  int32_t trying, best; /* the value under trial; the one that is to be fast */
  int tried;
  qe_queue *queue;
  qe_buffer *pixels;
  qe_population *population;
} scene;

/* ---- the work ---- */

static qe_status open_work(void *context) {
  scene *s = context;
  QE_TRY(qe_queue_new(s->device, &s->queue));
  QE_TRY(images_upload(&s->on, s->queue, &s->pixels));
  return qe_population_new(s->queue, s->network, s->layout, NULL, &s->population);
}

static qe_status run_work(void *context) {
  scene *s = context;
  int64_t loss[CANDIDATES], hits[CANDIDATES];
  qe_population_call call = images_call(&s->on, s->pixels, s->genomes, CANDIDATES);
  QE_TRY(qe_population_run(s->population, &call, &(qe_population_result){.loss = loss, .hits = hits}));
  for (int i = 0; i < CANDIDATES; i++) assert_int_equal(loss[i], s->wanted[i]);
  fake_now += s->trying == s->best ? 1 : 2;
  return QE_OK;
}

static void close_work(void *context) {
  scene *s = context;
  qe_population_free(s->population);
  qe_buffer_free(s->pixels);
  qe_queue_free(s->queue);
  s->population = NULL;
  s->pixels = NULL;
  s->queue = NULL;
}

static void note_trying(void *context, const char *name, int32_t value) {
  ((scene *)context)->trying = strcmp(name, number) == 0 ? value : -1;
}

static void note_tried(void *context, const char *name, int32_t value, double seconds) {
  scene *s = context;
  assert_string_equal(name, number); /* the others are of kernels that this work does without */
  assert_int_equal(value, s->trying);
  assert_true(seconds > 0);
  s->tried++;
}

/* ---- the scene ---- */

/* Tuning and a new device, whose engine then says which kernels it takes (free). */
static char *tuned_to(scene *s, int32_t best) {
  const qe_tuning tuning = {open_work, run_work, close_work, fake_clock, note_trying, note_tried, s};
  s->best = best;
  s->tried = 0;
  OK(opencl_open(NULL, &s->device));
  OK(s->device->table->tune(s->device, &tuning));
  assert_int_equal(s->tried, 3);
  qe_device_close(s->device);
  OK(opencl_open(NULL, &s->device));
  OK(open_work(s));
  OK(run_work(s));
  char *text = population_explained(s->population);
  close_work(s);
  qe_device_close(s->device);
  return text;
}

/* What op by op gives on ref. */
static void compute_wanted(scene *s) {
  int64_t hits[CANDIDATES];
  qe_open_options options = {0};
  qe_population_options by_ops = {.engine = "op by op"};
  OK(qe_device_open(opencl_registry, "ref", 0, &options, &s->device));
  OK(qe_queue_new(s->device, &s->queue));
  OK(images_upload(&s->on, s->queue, &s->pixels));
  OK(qe_population_new(s->queue, s->network, s->layout, &by_ops, &s->population));
  qe_population_call call = images_call(&s->on, s->pixels, s->genomes, CANDIDATES);
  OK(qe_population_run(s->population, &call, &(qe_population_result){.loss = s->wanted, .hits = hits}));
  close_work(s);
  qe_device_close(s->device);
}

static void open_scene(scene *s, uint64_t seed) {
  draws from = {.seed = seed};
  *s = (scene){0};
  s->network = network_drawn(&from, (network_limits){.extent = 8, .channels = 6, .blocks = 3}, CLASSES);
  OK(qe_genome_layout_new(s->network, NULL, &s->layout));
  images_draw(&s->on, &from, &s->network->layer[0].output);
  s->genomes = qe_alloc(CANDIDATES * s->layout->bytes);
  for (int i = 0; i < CANDIDATES; i++) {
    uint8_t *genome = s->genomes + (size_t)i * s->layout->bytes;
    qe_genome_from_network(s->layout, s->network, genome);
    for (size_t g = 0; g < s->layout->genes; g++)
      codes_change(&from, &s->layout->gene[g], 1 + s->layout->gene[g].count / 4, genome + s->layout->gene[g].offset);
  }
  compute_wanted(s);
}

static void close_scene(scene *s) {
  qe_free(s->genomes);
  qe_free(s->on.pixels);
  qe_genome_layout_free(s->layout);
  qe_network_free(s->network);
}

static void forget_numbers(void) {
  DIR *entries = opendir(QE_BINARY_DIR "/cache-tune/opencl");
  for (struct dirent *entry = entries ? readdir(entries) : NULL; entry; entry = readdir(entries))
    if (strncmp(entry->d_name, "tuned-", strlen("tuned-")) == 0) unlinkat(dirfd(entries), entry->d_name, 0);
  if (entries) closedir(entries);
}

/* The device is a processor. */
static bool has_lanes(scene *s) {
  OK(opencl_open(NULL, &s->device));
  OK(open_work(s));
  char *text = population_explained(s->population);
  bool has = strstr(text, "layout lanes") != NULL;
  free(text);
  close_work(s);
  qe_device_close(s->device);
  return has;
}

static void test_lanes_are_tuned(void **state) {
  (void)state;
  scene s;
  opencl_backend();
  setenv("QEVO_CACHE_DIR", cache, 1);
  forget_numbers();
  open_scene(&s, 2);
  bool lanes = has_lanes(&s);
  for (int32_t best = 4; lanes && best >= 2; best -= 2) {
    char *text = tuned_to(&s, best), wanted[8], other[8];
    snprintf(wanted, sizeof wanted, " 4x%d", best);
    snprintf(other, sizeof other, " 4x%d", 6 - best);
    if (!strstr(text, wanted) || strstr(text, other)) fail_msg("tuned to %d:\n%s", best, text);
    free(text);
  }
  forget_numbers();
  close_scene(&s);
  if (!lanes) skip();
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_lanes_are_tuned)};
  return cmocka_run_group_tests_name("opencl tune population", tests, opencl_setup, opencl_teardown);
}
