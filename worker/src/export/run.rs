//! An export from request to folder.

use std::path::{Path, PathBuf};

use serde::Serialize;
use weft_common::data::ChatTokenizer;
use weft_common::id::Digest;
use weft_common::storage::{StorageError, write_atomic};

use super::card::Card;
use super::folder::{Linears, ModelFolder};
use super::gguf::{LoraFile, ModelFiles, vocabulary};
use super::place::{EXPORT_FILE, Place};
use super::weights::MergedModel;
use super::{
    Control, ExportError, Format, HalfType, MergeBase, PeftAdapter, Request, TrainingRecord,
    config, modelfile,
};
use crate::checkpoint::{ADAPTER_CONFIG_FILE, ADAPTER_MODEL_FILE};
use crate::model::loader::{model_digest, read_spec, with_checkpoint};
use crate::model::{RopeScaling, Spec};
use crate::quant::StoredDtype;

/// What small files take at most, beside the tokenizer's.
const SMALL_FILES: u64 = 1 << 20;

/// What an export left; also the content of its `export.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The format's name.
    pub format: &'static str,
    /// Version of weft that made it.
    pub weft_version: &'static str,
    /// The base model, as the adapter names it or the request has it.
    pub base_model: String,
    /// Its digest, where it was computed.
    pub base_digest: Option<Digest>,
    /// What the adapter was added to: `stored` or `nf4`; `None` where nothing was merged.
    pub merge_base: Option<&'static str>,
    /// The folder.
    #[serde(skip)]
    pub output: PathBuf,
    /// Weights' files, largest content first written first.
    pub files: Vec<ExportedFile>,
}

/// A file of weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportedFile {
    /// Its name in the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// An export under way.
struct Export<'a> {
    request: &'a Request,
    adapter: PeftAdapter,
    record: Option<TrainingRecord>,
    control: Control<'a>,
}

/// Makes the export. **Cost**: reads the base model once, and once more for its digest where the adapter says which it was
/// trained on; holds the adapter in f32, one linear in 4 bits, and a few megabytes a core.
///
/// # Errors
/// Whatever stands in the way; nothing is left then but what was there before.
pub fn run(request: &Request, control: Control<'_>) -> Result<Summary, ExportError> {
    let export = Export {
        adapter: PeftAdapter::read(&request.adapter)?,
        record: TrainingRecord::read(&request.adapter)?,
        request,
        control,
    };
    match request.format {
        Format::Adapter => export.adapter(),
        Format::GgufLora => export.gguf_lora(),
        Format::Merged16Bit => export.folder(Linears::Half),
        Format::Merged4Bit => export.folder(Linears::Nf4),
        Format::Gguf => export.gguf(),
    }
}

impl Export<'_> {
    fn adapter(&self) -> Result<Summary, ExportError> {
        let place = self.place()?;
        let folder = &self.request.adapter;
        let tokenizer = self.tokenizer(folder);
        place.check_space(self.adapter.file_bytes() + small_files(tokenizer.as_ref().ok()))?;
        let to = place.path();
        let weights = folder.join(ADAPTER_MODEL_FILE);
        std::fs::copy(&weights, to.join(ADAPTER_MODEL_FILE))
            .and_then(|_| std::fs::File::open(to.join(ADAPTER_MODEL_FILE))?.sync_all())
            .map_err(|error| StorageError::new("copy", &weights, error))?;
        let mut config = self.adapter.config().clone();
        config["base_model_name_or_path"] = self.base_name().into();
        write_atomic(
            &to.join(ADAPTER_CONFIG_FILE),
            format!("{config:#}\n").as_bytes(),
        )?;
        if let Ok(tokenizer) = tokenizer {
            config::write_tokenizer(to, folder, &tokenizer)?;
        }
        let files = vec![(ADAPTER_MODEL_FILE.to_owned(), self.adapter.file_bytes())];
        self.finish(place, files, None, None)
    }

    fn gguf_lora(&self) -> Result<Summary, ExportError> {
        let base = self.base()?;
        let spec = read_spec(&base)?;
        self.adapter.check_fits(&spec)?;
        let name = self.name();
        let plan = LoraFile::plan(&self.adapter, &spec, &name, &self.request.quantizations)?;
        let place = self.place()?;
        place.check_space(plan.bytes() + SMALL_FILES)?;
        let files = plan.write(place.path(), self.control)?;
        self.finish(place, files, None, None)
    }

    fn folder(&self, linears: Linears) -> Result<Summary, ExportError> {
        let base = self.base()?;
        self.merge(&base, |model, digest| {
            let spec = model.spec();
            self.check_rope(spec)?;
            let half = self.half(&model)?;
            let tokenizer = self.tokenizer(&base)?;
            let plan = ModelFolder::plan(model, half, linears);
            let place = self.place()?;
            place.check_space(plan.bytes() + small_files(Some(&tokenizer)))?;
            let files = plan.write(place.path(), self.control)?;
            config::write(place.path(), (&base, spec), &tokenizer, (half, linears))?;
            self.finish(place, files, digest, Some(model.base))
        })
    }

    fn gguf(&self) -> Result<Summary, ExportError> {
        let base = self.base()?;
        self.merge(&base, |model, digest| {
            let tokenizer = self.tokenizer(&base)?;
            let keys = vocabulary(&tokenizer, model.spec().vocab)?;
            let name = self.name();
            let plan = ModelFiles::plan(model, &name, &keys, &self.request.quantizations)?;
            let place = self.place()?;
            place.check_space(plan.bytes() + SMALL_FILES)?;
            let files = plan.write(place.path(), self.control)?;
            self.write_modelfiles(place.path(), &files, &tokenizer)?;
            self.finish(place, files, digest, Some(model.base))
        })
    }

    /// `Modelfile` for the first file, and `Modelfile.NAME` for each further one.
    fn write_modelfiles(
        &self,
        folder: &Path,
        files: &[(String, u64)],
        tokenizer: &ChatTokenizer,
    ) -> Result<(), ExportError> {
        let quantizations = self.request.quantizations.iter();
        for (index, ((file, _), quantization)) in files.iter().zip(quantizations).enumerate() {
            let name = match index {
                0 => "Modelfile".to_owned(),
                _ => format!("Modelfile.{}", quantization.name().to_ascii_uppercase()),
            };
            write_atomic(
                &folder.join(name),
                modelfile::modelfile(file, tokenizer).as_bytes(),
            )?;
        }
        Ok(())
    }

    /// Opens the base model, checks that the adapter belongs to it, and does `work` with both.
    fn merge(
        &self,
        base: &Path,
        work: impl FnOnce(MergedModel<'_>, Option<Digest>) -> Result<Summary, ExportError>,
    ) -> Result<Summary, ExportError> {
        with_checkpoint(base, |checkpoint| {
            self.adapter.check_fits(checkpoint.spec())?;
            let digest = self.check_digest(base)?;
            let model = MergedModel {
                checkpoint,
                adapter: &self.adapter,
                base: self.request.merge_base.unwrap_or(MergeBase::Stored),
                stop: self.control.stop,
            };
            if self.request.merge_base == Some(MergeBase::Stored)
                && let Some(tensor) = model.first_nf4()?
            {
                return Err(ExportError::OnlyNf4 {
                    base: base.to_owned(),
                    tensor,
                });
            }
            work(model, digest)
        })
    }

    /// Whether the base model is the one that the adapter was trained on, where that is known.
    fn check_digest(&self, base: &Path) -> Result<Option<Digest>, ExportError> {
        let Some(record) = &self.record else {
            return Ok(None);
        };
        let (found, expected) = (model_digest(base)?, record.inputs.base_model);
        if found == expected || self.request.allow_other_base {
            return Ok(Some(found));
        }
        Err(ExportError::OtherBase {
            adapter: self.request.adapter.clone(),
            base: base.to_owned(),
            expected,
            found,
        })
    }

    /// Frequencies out of a GGUF file have no name in a configuration.
    fn check_rope(&self, spec: &Spec) -> Result<(), ExportError> {
        match spec.rope.scaling {
            RopeScaling::None | RopeScaling::Linear { .. } | RopeScaling::Llama3 { .. } => Ok(()),
            RopeScaling::Factors(_) => Err(ExportError::Unsupported {
                format: self.request.format.name(),
                problem: "its base is a GGUF file with rotary frequencies of its own; give the model's folder with --base \
                          and --allow-other-base, or export gguf"
                    .to_owned(),
            }),
        }
    }

    fn half(&self, model: &MergedModel<'_>) -> Result<HalfType, ExportError> {
        if let Some(half) = self.request.half {
            return Ok(half);
        }
        Ok(match model.float_format()? {
            Some(StoredDtype::F16) => HalfType::F16,
            Some(StoredDtype::Bf16 | StoredDtype::F32) | None => HalfType::Bf16,
        })
    }

    fn base(&self) -> Result<PathBuf, ExportError> {
        let named = || self.adapter.base().map(PathBuf::from).unwrap_or_default();
        let base = self.request.base.clone().unwrap_or_else(named);
        if base.exists() {
            return Ok(base);
        }
        Err(ExportError::NoBase {
            adapter: self.request.adapter.clone(),
            base,
        })
    }

    /// The adapter's own tokenizer, which has the template of the training, or the base model's.
    fn tokenizer(&self, base: &Path) -> Result<ChatTokenizer, ExportError> {
        let own = self.request.adapter.as_path();
        let own = own.join("tokenizer.json").is_file().then_some(own);
        Ok(ChatTokenizer::load(base, own, "auto")?)
    }

    fn place(&self) -> Result<Place, ExportError> {
        Place::prepare(&self.request.output, self.request.overwrite)
    }

    /// What the files are called: as asked, or as the run's folder.
    fn name(&self) -> String {
        if let Some(name) = &self.request.name {
            return name.clone();
        }
        let absolute = std::path::absolute(&self.request.adapter).unwrap_or_default();
        let mut names = absolute
            .iter()
            .rev()
            .map(|name| name.to_string_lossy().into_owned());
        let own = names.find(|name| name != "adapter" && name != "/");
        own.unwrap_or_else(|| "model".to_owned())
    }

    fn base_name(&self) -> String {
        let named = self.request.base_name.as_deref().or(self.adapter.base());
        named.unwrap_or("unknown").to_owned()
    }

    /// Writes what says what the folder is, and moves it into place.
    fn finish(
        &self,
        place: Place,
        files: Vec<(String, u64)>,
        base_digest: Option<Digest>,
        merged: Option<MergeBase>,
    ) -> Result<Summary, ExportError> {
        Control::go_on(self.control.stop)?;
        let summary = Summary {
            format: self.request.format.name(),
            weft_version: env!("CARGO_PKG_VERSION"),
            base_model: self.base_name(),
            base_digest,
            merge_base: merged.map(|base| match base {
                MergeBase::Stored => "stored",
                MergeBase::Nf4 => "nf4",
            }),
            output: self.request.output.clone(),
            files: files
                .into_iter()
                .map(|(name, bytes)| ExportedFile { name, bytes })
                .collect(),
        };
        let card = Card {
            name: &self.name(),
            summary: &summary,
            format: self.request.format,
            adapter: &self.adapter,
            record: self.record.as_ref(),
        };
        write_atomic(&place.path().join("README.md"), card.text().as_bytes())?;
        let json =
            serde_json::to_string_pretty(&summary).expect("a summary holds only numbers and text");
        write_atomic(
            &place.path().join(EXPORT_FILE),
            format!("{json}\n").as_bytes(),
        )?;
        place.finish()?;
        Ok(summary)
    }
}

fn small_files(tokenizer: Option<&ChatTokenizer>) -> u64 {
    // A tokenizer.model is smaller than the tokenizer.json that says the same.
    SMALL_FILES + tokenizer.map_or(0, |tokenizer| 2 * tokenizer.tokenizer_json().len() as u64)
}
