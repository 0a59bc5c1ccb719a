//! The task `image.thumbnail`: image bytes in, a small PNG out; payloads and results need not be JSON.
//!
//! For any input, memory is bounded before a pixel is decoded, and an unreadable image fails permanently. Never
//! enlarges, and keeps neither metadata nor colour profile.

mod jpeg;

use std::io::Cursor;
use std::ops::RangeInclusive;

use bytes::Bytes;
use crunch_common::job::{Metadata, Payload};
use image::metadata::Orientation;
use image::{DynamicImage, GenericImageView, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::{JobContext, TaskError};

/// The largest image file accepted, in bytes: 16 MiB. Photographs of 50 megapixels fit.
pub const MAX_PAYLOAD_BYTES: u64 = 16 * 1024 * 1024;
/// The media type of results.
const PNG: &str = "image/png";
/// The label that sets the size of the thumbnail.
const SIZE_KEY: &str = "size";
/// The longest side in pixels. 4096 is the width of a screen; a larger image is not a thumbnail.
const SIZE: RangeInclusive<u32> = 1..=4096;
/// The longest side in pixels without that label.
const DEFAULT_SIZE: u32 = 256;
/// The images of large phone cameras. Decoding the worst of JPEGs (progressive, four channels) needs 11 bytes a pixel,
/// so a malicious one takes at most 550 MB.
const MAX_PIXELS: u64 = 50_000_000;
/// Decoded pixels may take this many bytes: 50 megapixels of 8-bit RGBA fit, or 33 of 16-bit RGBA.
const MAX_DECODED_BYTES: u64 = 256 * 1024 * 1024;
/// The maximum of JPEG; PNG needs no longer lines either.
const MAX_SIDE: u32 = 65_535;
/// A smaller size is reached by a first step to this longest side: that keeps the 32-bit sums over source pixels from
/// overflowing.
const FIRST_STEP: u32 = 64;

/// Makes a PNG of an image, its longest side `metadata.size` pixels (1 to 4096, default 256), its aspect ratio kept. A
/// smaller image keeps its size. The payload's format, PNG or JPEG, is detected from its bytes; its EXIF orientation is
/// applied.
///
/// ```
/// use crunch_worker::Task;
/// use crunch_worker::tasks::thumbnail;
/// use crunch_worker::testing::Attempt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let mut image = std::io::Cursor::new(Vec::new());
/// image::RgbImage::new(400, 300).write_to(&mut image, image::ImageFormat::Png).unwrap();
///
/// let task = Task::raw_blocking("image.thumbnail", thumbnail);
/// let task = task.accepts(&["image/png"]).content_type("image/png");
/// let attempt = Attempt::of(task).raw_payload(image.into_inner(), "image/png");
/// let report = attempt.metadata("size", "100").run().await;
/// let thumbnail = image::load_from_memory(&report.result.unwrap().bytes).unwrap();
/// assert_eq!((thumbnail.width(), thumbnail.height()), (100, 75));
/// # }
/// ```
///
/// # Errors
/// `payload_invalid` if the size is out of range, or the image is neither PNG nor JPEG, unreadable, incomplete or too
/// large.
#[expect(
    clippy::needless_pass_by_value,
    reason = "handlers own their job: the worker registers them with this signature"
)]
pub fn thumbnail(job: JobContext, payload: Payload) -> Result<Payload, TaskError> {
    let size = size(job.metadata())?;
    let (image, orientation) = decode(&payload.bytes)?;
    if job.cancellation().is_cancelled() {
        return Err(TaskError::retryable("stopped before the image was resized"));
    }
    Ok(Payload { bytes: encode(&shrink(image, orientation, size))?, content_type: PNG.parse()? })
}

fn size(metadata: &Metadata) -> Result<u32, TaskError> {
    let Some(text) = metadata.get(SIZE_KEY) else {
        return Ok(DEFAULT_SIZE);
    };
    let size = text.parse().ok().filter(|size| SIZE.contains(size));
    size.ok_or_else(|| {
        let (low, high) = (SIZE.start(), SIZE.end());
        TaskError::payload_invalid(format!(
            "metadata.size is {text:?}; it must be a whole number of pixels from {low} to {high}"
        ))
    })
}

/// Returns the pixels and the orientation to apply.
fn decode(bytes: &Bytes) -> Result<(DynamicImage, Orientation), TaskError> {
    let format = recognize(bytes)?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits());
    let mut decoder = reader.into_decoder().map_err(|error| unreadable(&error))?;
    check_size(&decoder)?;
    // An invalid orientation tag must not fail the image.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(|error| unreadable(&error))?;
    Ok((image, orientation))
}

/// Detects the format from the bytes and ignores the media type: mislabelled images are common, and harmless here.
fn recognize(bytes: &[u8]) -> Result<ImageFormat, TaskError> {
    match image::guess_format(bytes) {
        Ok(ImageFormat::Png) => Ok(ImageFormat::Png),
        // The decoder would fill the missing part with grey and return no error.
        Ok(ImageFormat::Jpeg) if !jpeg::is_complete(bytes) => {
            Err(TaskError::payload_invalid("the JPEG is incomplete: it has no end marker"))
        }
        Ok(ImageFormat::Jpeg) => Ok(ImageFormat::Jpeg),
        _ => Err(TaskError::payload_invalid("the payload is neither a PNG nor a JPEG image")),
    }
}

fn limits() -> Limits {
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    limits
}

/// Rejects an image that would take too much memory, as soon as the header is read.
fn check_size(decoder: &impl ImageDecoder) -> Result<(), TaskError> {
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if pixels > MAX_PIXELS || decoder.total_bytes() > MAX_DECODED_BYTES {
        return Err(TaskError::payload_invalid(format!(
            "the image has {width} x {height} pixels and {} bytes when decoded; the limits are {MAX_PIXELS} pixels and \
             {MAX_DECODED_BYTES} bytes",
            decoder.total_bytes()
        )));
    }
    Ok(())
}

fn unreadable(error: &image::ImageError) -> TaskError {
    TaskError::payload_invalid(format!("the image cannot be read: {error}"))
}

/// Shrinks first, then rotates: rotating the small image is cheap, and does not change its longest side.
fn shrink(image: DynamicImage, orientation: Orientation, size: u32) -> DynamicImage {
    let mut image = eight_bits(image);
    for step in [size.max(FIRST_STEP), size] {
        let (width, height) = image.dimensions();
        if width.max(height) > step {
            image = image.thumbnail(step, step);
        }
    }
    image.apply_orientation(orientation);
    image
}

/// Thumbnails need no 16 bits a channel, and the sums of the resizing would overflow.
fn eight_bits(image: DynamicImage) -> DynamicImage {
    match image {
        DynamicImage::ImageLuma16(_) => image.into_luma8().into(),
        DynamicImage::ImageLumaA16(_) => image.into_luma_alpha8().into(),
        DynamicImage::ImageRgb16(_) => image.into_rgb8().into(),
        DynamicImage::ImageRgba16(_) => image.into_rgba8().into(),
        small => small,
    }
}

fn encode(image: &DynamicImage) -> Result<Bytes, TaskError> {
    let mut png = Cursor::new(Vec::new());
    image.write_to(&mut png, ImageFormat::Png)?;
    Ok(png.into_inner().into())
}

#[cfg(test)]
mod tests;
