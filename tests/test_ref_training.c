/* The references of loss, optimizers and augmentation against values worked out by hand, and the random numbers against
 * published ones. */
#include "tests/op_case.h"

/* ---- random numbers ---- */

/* Philox-4x32-10 written from the paper's definition, for any key and counter. */
static void philox_by_definition(const uint32_t key_in[2], uint32_t c[4]) {
  uint32_t key[2] = {key_in[0], key_in[1]};
  for (int round = 0; round < 10; round++) {
    uint64_t a = 0xD2511F53ull * c[0], b = 0xCD9E8D57ull * c[2];
    uint32_t next[4] = {(uint32_t)(b >> 32) ^ c[1] ^ key[0], (uint32_t)b, (uint32_t)(a >> 32) ^ c[3] ^ key[1],
                        (uint32_t)a};
    memcpy(c, next, sizeof next);
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
}

/* Known answers of Random123 (kat_vectors): they hold for the definition above, and qe_philox_draw equals it. */
static void test_philox(void **state) {
  (void)state;
  static const struct {
    uint32_t counter[4], key[2], answer[4];
  } known[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    uint32_t counter[4];
    memcpy(counter, known[i].counter, sizeof counter);
    philox_by_definition(known[i].key, counter);
    assert_memory_equal(counter, known[i].answer, sizeof counter);
  }
  qe_philox zero = qe_philox_draw(0, 0, 0);
  assert_memory_equal(zero.word, known[0].answer, sizeof zero.word);
  for (uint32_t i = 0; i < 100; i++) {
    qe_philox random = qe_philox_draw(1, QE_STREAM_TEST, i);
    uint32_t counter[4] = {random.word[2], random.word[3], i, 0};
    qe_philox draw =
        qe_philox_draw((uint64_t)random.word[1] << 32 | random.word[0], i, (uint64_t)counter[1] << 32 | counter[0]);
    philox_by_definition(random.word, counter);
    assert_memory_equal(draw.word, counter, sizeof counter);
  }
}

static void test_draw_ranges(void **state) {
  (void)state;
  assert_int_equal(qe_below(0, 9), 0);
  assert_int_equal(qe_below(0xffffffff, 9), 8);
  assert_int_equal(qe_below(0x80000000, 2), 1);
  assert_true(qe_uniform(0) > 0);
  assert_true(qe_uniform(0xffffffff) < 1);
}

/* ---- loss ---- */

static void test_softmax_xent(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.scale = 2;
  static const int32_t labels[] = {0, 1, 0};
  case_given(&given, "logits", qe_map(QE_F32, 3, 1, 1, 2), VALUES(1, 1, 1, 1, 1000, 998));
  case_given(&given, "label", qe_map(QE_S32, 3, 1, 1, 1), labels);
  case_run(&given, "softmax_xent", NULL);
  case_run(&given, "softmax_xent_grad", NULL);
  EXPECT(&given, "loss", 1e-6, 0.69314718, 0.69314718, 0.12692801);
  static const int32_t hits[] = {1, 0, 1}; /* equal logits: the first counts */
  assert_memory_equal(case_s32(&given, "hit"), hits, sizeof hits);
  EXPECT(&given, "dlogits", 1e-6, -1, 1, 1, -1, -0.23840584, 0.23840584);
  given.attrs.smoothing = 0.5f; /* target 0.75, 0.25 */
  case_run(&given, "softmax_xent", NULL);
  case_run(&given, "softmax_xent_grad", NULL);
  EXPECT(&given, "loss", 1e-6, 0.69314718, 0.69314718, 0.12692801 + 0.25 * 2);
  EXPECT(&given, "dlogits", 1e-6, -0.5, 0.5, 0.5, -0.5, 0.26159416, -0.26159416);
  case_free(&given);
}

/* The loss and the hits of the two labels, each by its share; shares of all or nothing are the loss of one label. */
static void test_mix_xent(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.scale = 2;
  static const int32_t labels[] = {0, 1, 0, 0}, others[] = {1, 1, 1, 1}, shares[] = {64, 3, 256, 0};
  case_given(&given, "logits", qe_map(QE_F32, 4, 1, 1, 2), VALUES(1, 3, 1, 1, 1000, 998, 2, 0));
  case_given(&given, "label", qe_map(QE_S32, 4, 1, 1, 1), labels);
  case_given(&given, "other", qe_map(QE_S32, 4, 1, 1, 1), others);
  case_given(&given, "share", qe_map(QE_S32, 4, 1, 1, 1), shares);
  case_run(&given, "mix_xent", NULL);
  case_run(&given, "mix_xent_grad", NULL);
  EXPECT(&given, "loss", 1e-6, 0.12692801 + 0.25 * 2, 0.69314718, 0.12692801, 2.12692801);
  static const int32_t hits[] = {192, 0, 256, 0};
  assert_memory_equal(case_s32(&given, "hit"), hits, sizeof hits);
  EXPECT(&given, "dlogits", 1e-6, 2 * (0.11920292 - 0.25), 2 * (0.88079708 - 0.75), 1, -1, -0.23840584, 0.23840584,
         2 * 0.88079708, -2 * 0.88079708);
  case_free(&given);
}

static void test_label_out_of_range(void **state) {
  (void)state;
  static const int32_t wrong[] = {-1, 3, INT32_MAX};
  static const char *const ops[] = {"softmax_xent", "softmax_xent_grad"};
  for (int i = 0; i < 6; i++) {
    op_case given = new_case();
    case_given(&given, "logits", qe_map(QE_F32, 1, 1, 1, 3), VALUES(1, 2, 3));
    case_given(&given, "label", qe_map(QE_S32, 1, 1, 1, 1), &wrong[i / 2]);
    qe_call call = case_bind(&given, ops[i % 2], NULL);
    assert_int_equal(qe_ref_get(call.op)(&call), QE_SHAPE);
    assert_non_null(strstr(qe_message(), "label[0]"));
    case_free(&given);
  }
}

/* ---- optimizers ---- */

static void test_clip_norm(void **state) {
  (void)state;
  op_case given = new_case();
  float hyper[QE_HYPERS] = {0};
  case_given(&given, "square_sum", qe_vector(QE_F32, 1), VALUES(25));
  case_given(&given, "hyper", qe_vector(QE_F32, QE_HYPERS), hyper);
  case_given(&given, "g", qe_vector(QE_F32, 2), VALUES(3, -4));
  case_run(&given, "clip_norm", NULL); /* 0: no clipping */
  EXPECT(&given, "g", 0, 3, -4);
  case_f32(&given, "hyper")[QE_HYPER_CLIP] = 6;
  case_run(&given, "clip_norm", NULL); /* below the limit */
  EXPECT(&given, "g", 0, 3, -4);
  case_f32(&given, "hyper")[QE_HYPER_CLIP] = 1;
  case_run(&given, "clip_norm", NULL);
  EXPECT(&given, "g", 1e-6, 3 / 5.000001, -4 / 5.000001);
  memcpy(case_f32(&given, "g"), VALUES(3, -4), 2 * sizeof(float));
  case_f32(&given, "square_sum")[0] = 1e-12f; /* where the term that keeps the quotient finite is half of it */
  case_f32(&given, "hyper")[QE_HYPER_CLIP] = 1e-6f;
  case_run(&given, "clip_norm", NULL);
  EXPECT(&given, "g", 1e-6, 1.5, -2);
  case_free(&given);
}

/* Two steps with rate 1/2, momentum 1/2, decay 1/4 from w = 4, gradient 1 and then 0. */
static void test_sgd(void **state) {
  (void)state;
  for (int nesterov = 0; nesterov < 2; nesterov++) {
    op_case given = new_case();
    float hyper[QE_HYPERS] = {[QE_HYPER_RATE] = 0.5f,
                              [QE_HYPER_MOMENTUM] = 0.5f,
                              [QE_HYPER_DECAY] = 0.25f,
                              [QE_HYPER_NESTEROV] = (float)nesterov};
    case_given(&given, "g", qe_vector(QE_F32, 1), VALUES(1));
    case_given(&given, "hyper", qe_vector(QE_F32, QE_HYPERS), hyper);
    case_given(&given, "w", qe_vector(QE_F32, 1), VALUES(4));
    case_given(&given, "m", qe_vector(QE_F32, 1), VALUES(0));
    case_run(&given, "sgd", NULL);
    EXPECT(&given, "m", 0, 2);
    EXPECT(&given, "w", 0, nesterov ? 2.5 : 3); /* 4 - (2 + 1) / 2, 4 - 2 / 2 */
    case_f32(&given, "g")[0] = 0;
    case_run(&given, "sgd", NULL);
    EXPECT(&given, "m", 0, nesterov ? 1.625 : 1.75);
    EXPECT(&given, "w", 0, nesterov ? 2.5 - 0.5 * (0.625 + 0.8125) : 3 - 0.5 * 1.75);
    case_free(&given);
  }
}

/* beta1 = 1/2, beta2 = 3/4, rate 1/4, decay 1/2, epsilon 1: first step with g = 2, second with g = 0. */
static void test_adam(void **state) {
  (void)state;
  op_case given = new_case();
  float hyper[QE_HYPERS] = {
      [QE_HYPER_RATE] = 0.25f, [QE_HYPER_MOMENTUM] = 0.5f, [QE_HYPER_BETA2] = 0.75f,  [QE_HYPER_EPSILON] = 1,
      [QE_HYPER_DECAY] = 0.5f, [QE_HYPER_CORRECTION1] = 2, [QE_HYPER_CORRECTION2] = 4};
  case_given(&given, "g", qe_vector(QE_F32, 1), VALUES(2));
  case_given(&given, "hyper", qe_vector(QE_F32, QE_HYPERS), hyper);
  case_given(&given, "w", qe_vector(QE_F32, 1), VALUES(8));
  case_given(&given, "m", qe_vector(QE_F32, 1), VALUES(0));
  case_given(&given, "v", qe_vector(QE_F32, 1), VALUES(0));
  case_run(&given, "adam", NULL);
  EXPECT(&given, "m", 0, 1);
  EXPECT(&given, "v", 0, 1);
  double w = 8 * 0.875 - 0.25 * 2 / (2 + 1.0); /* m * 2 = 2, sqrt(v * 4) = 2 */
  EXPECT(&given, "w", 1e-6, w);
  case_f32(&given, "g")[0] = 0;
  case_f32(&given, "hyper")[QE_HYPER_CORRECTION1] = 4.0f / 3;
  case_f32(&given, "hyper")[QE_HYPER_CORRECTION2] = 16.0f / 7;
  case_run(&given, "adam", NULL);
  EXPECT(&given, "m", 0, 0.5);
  EXPECT(&given, "v", 0, 0.75);
  EXPECT(&given, "w", 1e-6, w * 0.875 - 0.25 * (0.5 * 4 / 3) / (sqrt(0.75 * 16 / 7) + 1));
  case_free(&given);
}

/* ---- augmentation ---- */

enum { SIDE = 5, DEPTH = 3, IMAGES = 4, BATCH = 64 };

static op_case augment_case(int32_t pad, int32_t flip, uint64_t seed, uint64_t position) {
  op_case given = new_case();
  given.attrs.images = IMAGES;
  given.attrs.pad = pad;
  given.attrs.flip = flip;
  uint8_t *pixel = (uint8_t *)case_add(&given, "images", (qe_desc){QE_U8, {1, IMAGES, SIDE, SIDE, DEPTH}})->data;
  for (int k = 0; k < IMAGES * SIDE * SIDE * DEPTH; k++) pixel[k] = (uint8_t)(draw_word(&given.from) >> 24);
  int32_t *index = (int32_t *)case_add(&given, "index", qe_map(QE_S32, BATCH, 1, 1, 1))->data;
  for (int n = 0; n < BATCH; n++) index[n] = draw_range(&given.from, 0, IMAGES - 1);
  int32_t *counter = (int32_t *)case_add(&given, "counter", qe_vector(QE_S32, 4))->data;
  counter[0] = (int32_t)(uint32_t)seed;
  counter[1] = (int32_t)(uint32_t)(seed >> 32);
  counter[2] = (int32_t)(uint32_t)position;
  counter[3] = (int32_t)(uint32_t)(position >> 32);
  case_add(&given, "x", qe_map(QE_F32, BATCH, SIDE, SIDE, DEPTH));
  return given;
}

/* The long way: build the padded image, cut the crop, mirror it row by row. */
static void augment_slowly(const uint8_t *image, int pad, qe_philox draw, bool flip, double *out) {
  enum { MAX_SIDE = SIDE + 2 * 8 };
  static double padded[MAX_SIDE][MAX_SIDE][DEPTH];
  memset(padded, 0, sizeof padded);
  for (int r = 0; r < SIDE; r++)
    for (int c = 0; c < SIDE; c++)
      for (int ch = 0; ch < DEPTH; ch++)
        padded[r + pad][c + pad][ch] = (image[(r * SIDE + c) * DEPTH + ch] - 128) / 64.0;
  uint32_t top = qe_below(draw.word[0], 2 * (uint32_t)pad + 1), left = qe_below(draw.word[1], 2 * (uint32_t)pad + 1);
  for (int r = 0; r < SIDE; r++)
    for (int c = 0; c < SIDE; c++)
      memcpy(out + (r * SIDE + (flip ? SIDE - 1 - c : c)) * DEPTH, padded[(int)top + r][(int)left + c],
             sizeof padded[0][0]);
}

static void test_augment(void **state) {
  (void)state;
  static const struct {
    int32_t pad, flip;
    uint64_t seed, position;
  } drawn[] = {{0, 0, 1, 0}, {0, 1, 2, 0}, {2, 0, 3, 50}, {4, 1, 0xfedcba9876543210, 0x1ffffffe0}, {8, 1, 5, 7}};
  enum { PIXELS = SIDE * SIDE * DEPTH };
  for (size_t i = 0; i < sizeof drawn / sizeof *drawn; i++) {
    op_case given = augment_case(drawn[i].pad, drawn[i].flip, drawn[i].seed, drawn[i].position);
    case_run(&given, "augment", NULL);
    const uint8_t *images = (const uint8_t *)case_find(&given, "images")->data;
    double wanted[BATCH * PIXELS];
    int flipped = 0;
    for (int n = 0; n < BATCH; n++) {
      qe_philox draw = qe_philox_draw(drawn[i].seed, QE_STREAM_AUGMENT, drawn[i].position + (uint64_t)n);
      bool flip = drawn[i].flip && draw.word[2] % 2 == 1;
      flipped += flip;
      augment_slowly(images + case_s32(&given, "index")[n] * PIXELS, drawn[i].pad, draw, flip, wanted + n * PIXELS);
    }
    case_expect(&given, "x", wanted, 0);
    if (drawn[i].flip) assert_true(flipped > BATCH / 8 && flipped < BATCH - BATCH / 8);
    case_free(&given);
  }
}

/* Without padding and flip: the plain image, (pixel - 128) / 64. */
static void test_augment_plain(void **state) {
  (void)state;
  op_case given = new_case();
  given.attrs.images = 2;
  static const uint8_t pixels[] = {0, 64, 128, 255, 1, 2, 3, 4};
  static const int32_t index[] = {0}, counter[] = {1, 2, 3, 4};
  case_given(&given, "images", (qe_desc){QE_U8, {1, 2, 2, 2, 1}}, pixels);
  case_given(&given, "index", qe_map(QE_S32, 1, 1, 1, 1), index);
  case_given(&given, "counter", qe_vector(QE_S32, 4), counter);
  case_add(&given, "x", qe_map(QE_F32, 1, 2, 2, 1));
  case_run(&given, "augment", NULL);
  EXPECT(&given, "x", 0, -2, -1, 0, 127.0 / 64);
  case_s32(&given, "index")[0] = 2;
  qe_call call = case_bind(&given, "augment", NULL);
  assert_int_equal(qe_ref_get(call.op)(&call), QE_SHAPE);
  assert_non_null(strstr(qe_message(), "index[0]"));
  case_free(&given);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_philox),
      cmocka_unit_test(test_draw_ranges),
      cmocka_unit_test(test_softmax_xent),
      cmocka_unit_test(test_mix_xent),
      cmocka_unit_test(test_label_out_of_range),
      cmocka_unit_test(test_clip_norm),
      cmocka_unit_test(test_sgd),
      cmocka_unit_test(test_adam),
      cmocka_unit_test(test_augment),
      cmocka_unit_test(test_augment_plain),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
