// Masks from what `litetext export MODEL --to onnx -o DIR` wrote, with ONNX Runtime's C API and nothing else.
//
//     segment DIR photo.ppm "white dog" found      writes found-0.pgm, found-1.pgm, ... and prints scores and boxes
//
// A picture is resized as torchvision does it, bit for bit, and a mask as PyTorch does it: masks are LiteText's.
// Phrases are ASCII here; for other scripts use a library that reads DIR/tokenizer.json.

#include <onnxruntime_c_api.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

using Bytes = std::vector<unsigned char>;
using Values = std::map<std::string, OrtValue*>;

static const OrtApi* ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);

[[noreturn]] static void fail(const std::string& what) {
  std::fprintf(stderr, "error: %s\n", what.c_str());
  std::exit(1);
}

static void check(OrtStatus* status) {
  if (status != nullptr) fail(ort->GetErrorMessage(status));
}

static std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("no such file, " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The numbers of a list in the manifest, which is flat where we read it.
static std::vector<double> numbers(const std::string& json, const std::string& key) {
  const size_t place = json.find("\"" + key + "\":");
  if (place == std::string::npos) fail("no " + key + " in the manifest");
  std::string list = json.substr(json.find('[', place) + 1, json.find(']', place) - json.find('[', place) - 1);
  std::replace(list.begin(), list.end(), ',', ' ');
  std::istringstream stream(list);
  return {std::istream_iterator<double>(stream), {}};
}

// CLIP's tokens of a phrase: merges.npy holds (left, right, merged), the most frequent pairs first.
static std::vector<int64_t> tokens(const std::string& folder, std::string phrase) {
  const std::string file = read(folder + "/merges.npy");
  const size_t start = 10 + static_cast<unsigned char>(file[8]) + 256 * static_cast<unsigned char>(file[9]);
  std::map<std::pair<int, int>, std::pair<int, int>> merges;  // a pair -> its rank, what it becomes
  for (size_t place = start, rank = 0; place + 6 <= file.size(); place += 6, ++rank) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(file.data()) + place;
    merges.insert({{bytes[0] + 256 * bytes[1], bytes[2] + 256 * bytes[3]}, {int(rank), bytes[4] + 256 * bytes[5]}});
  }
  for (char& letter : phrase) {
    if (static_cast<unsigned char>(letter) > 126) fail("a phrase that is not ASCII");
    letter = static_cast<char>(std::tolower(letter));
  }
  const auto kind = [](char one) { return std::isspace(one) ? 0 : std::isalpha(one) ? 1 : std::isdigit(one) ? 2 : 3; };
  std::vector<int64_t> ids = {49406};
  for (size_t place = 0, end; place < phrase.size(); place = end) {
    end = place + 1;
    for (const char* ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"})
      if (phrase.compare(place, std::string(ending).size(), ending) == 0) end = place + std::string(ending).size();
    if (end == place + 1 && kind(phrase[place]) != 2)  // a digit is a word of its own
      while (end < phrase.size() && kind(phrase[end]) == kind(phrase[place])) ++end;
    if (kind(phrase[place]) == 0) continue;
    std::vector<int> word;
    for (size_t letter = place; letter < end; ++letter) word.push_back(phrase[letter] - '!');
    word.back() += 256;  // the tokens that end a word
    for (;;) {
      auto best = merges.end();
      for (size_t left = 0; left + 1 < word.size(); ++left) {
        const auto found = merges.find({word[left], word[left + 1]});
        if (found != merges.end() && (best == merges.end() || found->second < best->second)) best = found;
      }
      if (best == merges.end()) break;
      std::vector<int> merged;
      for (size_t left = 0; left < word.size(); ++left) {
        const bool is_pair = left + 1 < word.size() && std::pair(word[left], word[left + 1]) == best->first;
        merged.push_back(is_pair ? best->second.second : word[left]);
        left += is_pair;
      }
      word = merged;
    }
    ids.insert(ids.end(), word.begin(), word.end());
  }
  ids.push_back(49407);
  return ids;
}

// Pixels [rows, old, 3] as [new, rows, 3]: bilinear with antialiasing, weights of 16 bits. Twice, it is a resize.
static Bytes resize_turned(const Bytes& image, int rows, int old, int size) {
  const double scale = double(old) / size, support = std::max(scale, 1.0);
  std::vector<int> first(size);
  std::vector<std::vector<double>> weights(size);
  double most = 0;
  for (int place = 0; place < size; ++place) {
    const double center = scale * (place + 0.5);
    first[place] = std::max(int(center - support + 0.5), 0);
    double sum = 0;
    for (int tap = first[place]; tap < std::min(int(center + support + 0.5), old); ++tap) {
      weights[place].push_back(std::max(0.0, 1 - std::abs((tap - center + 0.5) / support)));
      sum += weights[place].back();
    }
    for (double& weight : weights[place]) most = std::max(most, weight /= sum);
  }
  int bits = 0;
  while (bits < 22 && int(0.5 + most * (1 << (bits + 1))) < (1 << 15)) ++bits;
  Bytes result(size_t(size) * rows * 3);
  for (int place = 0; place < size; ++place) {
    std::vector<int> whole;
    for (double weight : weights[place]) whole.push_back(int(std::floor(weight * (1 << bits) + 0.5)));
    for (int row = 0; row < rows; ++row)
      for (int channel = 0; channel < 3; ++channel) {
        int total = 1 << (bits - 1);
        for (size_t tap = 0; tap < whole.size(); ++tap)
          total += whole[tap] * image[(size_t(row) * old + first[place] + tap) * 3 + channel];
        const int value = std::clamp(total >> bits, 0, 255);
        result[(size_t(place) * rows + row) * 3 + channel] = static_cast<unsigned char>(value);
      }
  }
  return result;
}

template <class Type>
static OrtValue* tensor(std::vector<Type>& data, std::vector<int64_t> shape, ONNXTensorElementDataType type) {
  OrtMemoryInfo* memory = nullptr;
  check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  OrtValue* value = nullptr;
  const size_t bytes = data.size() * sizeof(Type);
  check(ort->CreateTensorWithDataAsOrtValue(memory, data.data(), bytes, shape.data(), shape.size(), type, &value));
  ort->ReleaseMemoryInfo(memory);
  return value;
}

// The outputs of a program by name; a service would keep the session, and release the values.
static Values run(OrtEnv* env, const std::string& path, const Values& inputs, const std::vector<const char*>& names) {
  OrtSessionOptions* options = nullptr;
  OrtSession* session = nullptr;
  check(ort->CreateSessionOptions(&options));
  check(ort->CreateSession(env, path.c_str(), options, &session));
  std::vector<const char*> given;
  std::vector<const OrtValue*> values;
  for (const auto& [name, value] : inputs) given.push_back(name.c_str()), values.push_back(value);
  std::vector<OrtValue*> found(names.size());
  check(ort->Run(session, nullptr, given.data(), values.data(), given.size(), names.data(), names.size(),
                 found.data()));
  ort->ReleaseSession(session);
  ort->ReleaseSessionOptions(options);
  Values outputs;
  for (size_t place = 0; place < names.size(); ++place) outputs[names[place]] = found[place];
  return outputs;
}

static const float* floats(OrtValue* value) {
  void* data = nullptr;
  check(ort->GetTensorMutableData(value, &data));
  return static_cast<const float*>(data);
}

static float sigmoid(float logit) { return 1 / (1 + std::exp(-logit)); }

// The two cells of `old` on either side of a place among `size`, and the share of the second.
static void neighbors(int old, int size, int place, int* low, int* high, float* share) {
  const float where = std::max(float(old) / float(size) * (float(place) + 0.5f) - 0.5f, 0.0f);
  *low = std::min(int(where), old - 1);
  *high = std::min(*low + 1, old - 1);
  *share = where - float(*low);
}

static void write_mask(const std::string& path, const float* logits, int rows, int columns, int height, int width) {
  std::ofstream file(path, std::ios::binary);
  file << "P5\n" << width << " " << height << "\n255\n";
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      int up, down, left, right;
      float below, beside;
      neighbors(rows, height, y, &up, &down, &below);
      neighbors(columns, width, x, &left, &right, &beside);
      const auto mean = [&](int row) {
        return sigmoid(logits[row * columns + left]) * (1 - beside) + sigmoid(logits[row * columns + right]) * beside;
      };
      file.put(mean(up) * (1 - below) + mean(down) * below > 0.5f ? '\xff' : '\0');
    }
}

int main(int count, char** words) {
  if (count != 5) fail("usage: segment DIR photo.ppm PHRASE OUTPUT");
  const std::string folder = words[1], picture = words[2], manifest = read(folder + "/litetext.json");
  const std::vector<double> size = numbers(manifest, "size");
  const std::vector<double> mean = numbers(manifest, "mean"), deviation = numbers(manifest, "std");
  std::ifstream file(picture, std::ios::binary);
  std::string magic;
  int width = 0, height = 0, most = 0;
  file >> magic >> width >> height >> most;
  if (magic != "P6" || most != 255 || width < 1 || height < 1) fail("not a PPM file of 8 bits, " + picture);
  Bytes image(size_t(width) * height * 3);
  file.get();
  if (!file.read(reinterpret_cast<char*>(image.data()), std::streamsize(image.size()))) fail("the picture is cut off");

  const int tall = int(size[0]), wide = int(size[1]);
  const Bytes small = resize_turned(resize_turned(image, height, width, wide), wide, height, tall);
  std::vector<float> pixels(small.size());
  for (size_t place = 0; place < small.size(); ++place) {
    const size_t channel = place % 3;
    const float shift = float(mean[channel]) * 255, scale = float(deviation[channel]) * 255;
    pixels[channel * tall * wide + place / 3] = (float(small[place]) - shift) / scale;
  }
  std::vector<int64_t> ids = tokens(folder, words[3]), mask(ids.size(), 1);
  const int64_t length = int64_t(ids.size());

  OrtEnv* env = nullptr;
  check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "segment", &env));
  const auto integer = ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64;
  Values seen = run(env, folder + "/vision-encoder.onnx",
                    {{"images", tensor(pixels, {1, 3, tall, wide}, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)}},
                    {"fpn_feat_0", "fpn_feat_1", "fpn_feat_2", "fpn_pos_2"});
  OrtValue *words_in = tensor(ids, {1, length}, integer), *valid = tensor(mask, {1, length}, integer);
  Values text = run(env, folder + "/text-encoder.onnx", {{"input_ids", words_in}, {"attention_mask", valid}},
                    {"text_features", "text_mask"});
  seen["prompt_features"] = text["text_features"];
  seen["prompt_mask"] = text["text_mask"];
  Values found =
      run(env, folder + "/decoder.onnx", seen, {"pred_masks", "pred_boxes", "pred_logits", "presence_logits"});

  OrtTensorTypeAndShapeInfo* info = nullptr;
  int64_t shape[4];  // 1, candidates, rows and columns of a mask
  check(ort->GetTensorTypeAndShape(found["pred_masks"], &info));
  check(ort->GetDimensions(info, shape, 4));
  ort->ReleaseTensorTypeAndShapeInfo(info);
  std::vector<std::pair<float, int>> order;  // best scores first
  const float presence = sigmoid(*floats(found["presence_logits"]));
  for (int place = 0; place < shape[1]; ++place)
    order.push_back({-sigmoid(floats(found["pred_logits"])[place]) * presence, place});
  std::sort(order.begin(), order.end());
  for (size_t rank = 0; rank < order.size() && -order[rank].first > 0.5f; ++rank) {
    const float* box = floats(found["pred_boxes"]) + 4 * order[rank].second;
    std::printf("%.6f %.3f %.3f %.3f %.3f\n", -order[rank].first, box[0] * width, box[1] * height, box[2] * width,
                box[3] * height);
    const float* logits = floats(found["pred_masks"]) + order[rank].second * shape[2] * shape[3];
    write_mask(words[4] + ("-" + std::to_string(rank)) + ".pgm", logits, int(shape[2]), int(shape[3]), height, width);
  }
  ort->ReleaseEnv(env);
}
